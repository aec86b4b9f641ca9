"""TOML into a frozen dataclass, or an error that says which key is wrong and what to write."""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

import msgspec

from fleetward.adapters.disk import Disk
from fleetward.errors import ConfigurationError, DiskError, DocumentError
from fleetward.wire.preparing import prepared

Settings = TypeVar("Settings")


def load_settings(disk: Disk, path: Path, kind: type[Settings]) -> Settings:
    """Return the TOML file at `path` as the dataclass `kind`.

    Raises:
        ConfigurationError: the file is absent, unreadable, no TOML, or has an unknown key or a
            wrong value.
    """
    try:
        text = disk.read(path).decode()
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    except (DiskError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    try:
        return parse_settings(text, kind)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_settings(text: str, kind: type[Settings]) -> Settings:
    """Return TOML text as the dataclass `kind`.

    Raises:
        ConfigurationError: as `load_settings`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}") from error
    for complaint in _unknown_keys(table, kind, ""):
        raise ConfigurationError(complaint)
    try:
        return msgspec.convert(_with_durations(table, kind), prepared(kind), dec_hook=_from_toml)
    except (msgspec.ValidationError, DocumentError) as error:
        raise ConfigurationError(str(error)) from error


def _with_durations(table: Mapping[str, Any], kind: Any) -> dict[str, Any]:  # noqa: ANN401 (any dataclass)
    """Return `table` with the numbers of seconds that it gives for durations as durations."""
    hints = typing.get_type_hints(kind)
    return {key: _with_duration(value, hints[key]) for key, value in table.items()}


def _with_duration(value: Any, hint: Any) -> Any:  # noqa: ANN401 (any annotation)
    inner = next(_dataclasses_in(hint), None)
    if isinstance(value, Mapping) and inner:
        return _with_durations(value, inner)
    if isinstance(value, list) and inner:
        return [_with_duration(row, inner) for row in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is not timedelta or not is_number:
        return value
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError) as error:
        raise ConfigurationError(f"{value} seconds are no duration: {error}") from error


def _from_toml(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def _unknown_keys(table: Mapping[str, Any], kind: Any, prefix: str) -> Iterator[str]:  # noqa: ANN401 (any annotation)
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            yield f"unknown key {prefix + key!r}; {advice}"
            continue
        for inner in _dataclasses_in(hints[key]):
            for table_inside in value if isinstance(value, list) else [value]:
                if isinstance(table_inside, Mapping):
                    yield from _unknown_keys(table_inside, inner, f"{prefix}{key}.")


def _dataclasses_in(hint: Any) -> Iterator[Any]:  # noqa: ANN401 (any annotation)
    if dataclasses.is_dataclass(hint):
        yield hint
    elif typing.get_origin(hint) in {tuple, list, UnionType, typing.Union}:
        for argument in typing.get_args(hint):
            if argument not in {..., NoneType}:
                yield from _dataclasses_in(argument)


def toml_text(value: Any) -> str:  # noqa: ANN401 (any dataclass)
    """Return a dataclass of scalars, tuples and tables as TOML that `parse_settings` reads."""
    return "\n".join(_table_lines(value, "")).strip() + "\n"


def _table_lines(value: Any, name: str) -> Iterator[str]:  # noqa: ANN401 (any dataclass)
    tables: list[tuple[str, Any]] = []
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        is_no_row = content == () and any(_dataclasses_in(hints[field.name]))
        if _is_tables(content):
            tables.append((field.name, content))
        elif content is not None and not is_no_row:
            yield f"{field.name} = {_toml_value(content)}"
    for key, content in tables:
        inner = f"{name}.{key}" if name else key
        if isinstance(content, tuple):
            for row in content:
                yield f"\n[[{inner}]]"
                yield from _table_lines(row, inner)
        else:
            yield f"\n[{inner}]"
            yield from _table_lines(content, inner)


def _is_tables(content: object) -> bool:
    if isinstance(content, tuple):
        return bool(content) and dataclasses.is_dataclass(content[0])
    return dataclasses.is_dataclass(content)


def _toml_value(content: object) -> str:
    if isinstance(content, tuple):
        return f"[{', '.join(_toml_value(item) for item in content)}]"
    if isinstance(content, timedelta):
        return repr(content.total_seconds())
    if isinstance(content, bool | int | float):
        return str(content).lower()
    return msgspec.json.encode(str(content)).decode().replace("\x7f", "\\u007f")

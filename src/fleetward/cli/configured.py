"""`--config FILE`: a command's flags and arguments from a TOML file; what the command line says wins.

    keys = "/etc/fleetward/keys"      # for every command of the program that takes it
    [serve]                           # for one command
    listen = "0.0.0.0:8080"
    [product.add]                     # for a command of a group
    engine = "yara"

A key is called as the flag is, with `_` for `-`. Programs whose settings are more than their flags
(relay, console, ports) have a `--config` of their own, and an agent its `agent.toml`.
"""

import difflib
import functools
import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.errors import ConfigurationError, DiskError

_NOT_SETTINGS = frozenset({"config", "help"})


class ConfiguredTyper(typer.Typer):
    """Typer whose commands take `--config FILE`."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:  # noqa: ANN401 (typer's own)
        """Register a command; see `typer.Typer.command`."""
        register = super().command(*arguments, **options)

        def register_configured(function: Callable[..., None]) -> Callable[..., None]:
            register(configured(function))
            return function

        return register_configured


def configured(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command's function with the flag `--config FILE` beside its own."""

    @functools.wraps(function)
    def command(*, config: object, **values: object) -> None:
        del config
        function(**values)

    signature = inspect.signature(function, eval_str=True)
    flag = inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_CONFIG
    )
    parameters = [*signature.parameters.values(), flag]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, "config": _CONFIG}
    return command


def _take(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the defaults of the command.

    Raises:
        ConfigurationError: the file is absent, unreadable, no TOML, or has an unknown key or a wrong
            value.
    """
    if path is None:
        return None
    table = _read(path)
    program = _program(context)
    try:
        _refuse_unknown(table, program.command)
        context.default_map = _values(table, context, program)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return path


_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Flags and arguments from a TOML file; flags win.",
        is_eager=True,
        callback=_take,
    ),
]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(SystemDisk().read(path.absolute()).decode())
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    except (DiskError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error


def _program(context: typer.Context) -> Any:  # noqa: ANN401 (what typer calls a parent)
    """Return the context of `origin` in `fleetward origin product add`."""
    chain: list[Any] = [context]
    while chain[0].parent is not None:
        chain.insert(0, chain[0].parent)
    return chain[min(1, len(chain) - 1)]


def _refuse_unknown(table: Mapping[str, Any], program: Any) -> None:  # noqa: ANN401 (as `_commands_of`)
    for complaint in _complaints(table, program, ""):
        raise ConfigurationError(complaint)


def _complaints(table: Mapping[str, Any], command: Any, prefix: str) -> Iterator[str]:  # noqa: ANN401 (as `_commands_of`)
    """Yield what nobody would read: unknown keys and tables, each with the nearest that is known."""
    groups = _commands_of(command)
    known = {*groups, *(() if prefix and groups else _settings_below(command))}
    for key, value in table.items():
        if key in groups and isinstance(value, Mapping):
            yield from _complaints(value, groups[key], f"{prefix}{key}.")
        elif key not in known or isinstance(value, Mapping):
            near = difflib.get_close_matches(key, known, n=1)
            advice = (
                f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(known))}"
            )
            yield f"unknown key {prefix + key!r}; {advice}"


def _settings_below(command: Any) -> Iterator[str]:  # noqa: ANN401 (as `_commands_of`)
    """Yield the names of what a command takes, or of what a group's commands take."""
    inner = _commands_of(command)
    for one in inner.values():
        yield from _settings_below(one)
    if not inner:
        names = (parameter.name for parameter in command.params)
        yield from (name for name in names if name and name not in _NOT_SETTINGS)


def _commands_of(command: Any) -> Mapping[str, Any]:  # noqa: ANN401 (a command or a group of them)
    """Return the commands of a group by name; none for a command."""
    commands: Mapping[str, Any] = getattr(command, "commands", {})
    return commands


def _values(
    table: Mapping[str, Any],
    context: typer.Context,
    program: Any,  # noqa: ANN401 (as `_program`)
) -> dict[str, Any]:
    """Return what the file says of this command: the program's keys, then the command's own."""
    own: Any = table
    said = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    for name in _steps(context, program):
        own = own.get(name, {}) if isinstance(own, Mapping) else {}
        said |= {key: value for key, value in own.items() if not isinstance(value, Mapping)}
    known = {parameter.name: parameter for parameter in context.command.params}
    return {key: _value(known[key], said[key]) for key in said if key in known}


def _steps(context: Any, program: Any) -> list[str]:  # noqa: ANN401 (as `_program`)
    """Return the names between a program and its command: `product`, `add`."""
    steps: list[str] = []
    while context is not program and context.parent is not None:
        steps.insert(0, context.info_name or "")
        context = context.parent
    return steps


def _value(parameter: Any, value: object) -> object:  # noqa: ANN401 (an option or an argument)
    """Return a value once its shape is the parameter's; typer reads it as if it were typed.

    Raises:
        ConfigurationError: it is no value that can be given in a line, or a list where one is
            wanted, or the reverse.
    """
    is_list = getattr(parameter, "multiple", False) or getattr(parameter, "nargs", 1) == -1
    is_flag = getattr(parameter, "is_flag", False)
    wanted = "a list" if is_list else "true or false" if is_flag else "a text or a number"
    rows = value if is_list and isinstance(value, list) else [value]
    has_shape = isinstance(value, list) == is_list and all(
        isinstance(row, bool) if is_flag else isinstance(row, str | int | float) for row in rows
    )
    if not has_shape or (not is_flag and any(isinstance(row, bool) for row in rows)):
        raise ConfigurationError(f"{parameter.name} is {wanted}")
    return [str(row) for row in rows] if is_list else value if is_flag else str(value)

"""The JSON of the signed documents, of status and of update reports.

Encoding is canonical: `schema` first, then the fields in the order of docs/formats.md, UTF-8, no
white space, instants as RFC 3339 in UTC with whole seconds. Decoding is strict in types, ranges
and schema; a field that it does not know is passed over, so that a later minor addition does not
stop older hosts (docs/adr/0005).
"""

from typing import Any, TypeVar

import msgspec

from fleetward.core.consoles import Consoles
from fleetward.core.documents import Channel, Floor, Manifest, Policy
from fleetward.core.fleet import Relays
from fleetward.core.limits import MetadataLimits
from fleetward.errors import DocumentError
from fleetward.wire.preparing import prepared

Document = TypeVar("Document")

_SCHEMAS: dict[type, str] = {
    Manifest: "fleetward.release/1",
    Channel: "fleetward.channel/1",
    Floor: "fleetward.floor/1",
    Policy: "fleetward.policy/1",
    Relays: "fleetward.relays/1",
    Consoles: "fleetward.console/1",
}


class _Head(msgspec.Struct):
    schema: str


def encode(document: Manifest | Channel | Floor | Policy | Relays | Consoles) -> bytes:
    """Return the canonical JSON of a signed document."""
    return encode_json(_SCHEMAS[type(document)], document)


def encode_json(schema: str, document: object) -> bytes:
    """Return the canonical JSON of `document`, a dataclass, Struct or dict, under `schema`."""
    return msgspec.json.encode({"schema": schema, **_fields(document)})


def _fields(document: object) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(document)
    return fields


def decode(kind: type[Document], content: bytes) -> Document:
    """Return `content` as a signed document, of a kind that `encode` takes.

    Raises:
        DocumentError: longer than the limit, not JSON, another schema, or a field that is missing
            or out of range.
    """
    if len(content) > MetadataLimits().document_bytes:
        raise DocumentError(f"a document of {len(content)} bytes")
    return decode_json(_SCHEMAS[kind], kind, content)


def decode_json(schema: str, kind: type[Document], content: bytes) -> Document:
    """Return `content` as `kind`, where its schema is `schema`.

    Raises:
        DocumentError: as `decode`.
    """
    try:
        found = msgspec.json.decode(content, type=_Head).schema
        if found != schema:
            raise DocumentError(
                f"the document has the schema {found[:60]!r}, not {schema!r}: it was made by "
                "another version of Fleetward"
            )
        return msgspec.json.decode(content, type=prepared(kind))
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DocumentError(f"not a {schema} document: {error}") from error

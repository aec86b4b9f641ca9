"""What the OpenAPI document says of errors."""

from ninja import Schema


class WrongField(Schema):
    """A value that is missing or wrong."""

    where: list[str]
    why: str


class Problem(Schema):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[WrongField] | None = None


def answers(kind: object, *codes: int) -> dict[int, object]:
    """Return the `response` of an operation: its own kind, and the problems it may answer.

    Args:
        kind: what 200 carries.
        codes: problems beside 401, 403 and 422, which every operation may answer.
    """
    return {200: kind} | dict.fromkeys((401, 403, 422, *codes), Problem)

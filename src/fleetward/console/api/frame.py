"""The API under /api/v1: one ninja API with the routers of all parts.

Invariants: every operation names its action (`security.needs`) or the API does not start; errors
are problem documents; an answer to GET has an ETag and honours If-None-Match (RFC 9110, 13.1.2).
"""

from functools import cache
from http import HTTPStatus
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.operation import Operation

from fleetward import __version__
from fleetward.console.api.etags import with_etag
from fleetward.console.api.security import Forbidden, Needs, Unauthorised
from fleetward.console.parts import parts
from fleetward.console.web.problems import PROBLEM, problem

DESCRIPTION = (
    "Every operation wants a bearer token whose scope and owner permit it. Lists come in pages: "
    "follow `next`. Errors are problem documents (RFC 9457)."
)


class _Api(NinjaAPI):
    """ninja's, whose document says that errors are problems and names operations shortly."""

    def get_openapi_operation_id(self, operation: Operation) -> str:
        """Return the name of the function that answers."""
        return str(operation.view_func.__name__)

    def get_openapi_schema(self, **asked: Any) -> OpenAPISchema:  # noqa: ANN401 (ninja's own)
        """Return the document."""
        document = super().get_openapi_schema(**asked)
        for methods in document["paths"].values():
            for described in methods.values():
                for code, answer in described["responses"].items():
                    if int(code) >= HTTPStatus.BAD_REQUEST:
                        answer["content"] = {PROBLEM: answer["content"]["application/json"]}
        return document


@cache
def api() -> NinjaAPI:
    """Return the API with the routers of all parts; made once."""
    made = _Api(
        title="Fleetward console",
        version=__version__,
        description=DESCRIPTION,
        urls_namespace="api",
        docs_url=None,
        openapi_url="/openapi.json",
    )
    _map_errors(made)
    for part in parts():
        for prefix, router in part.routers.items():
            router.add_decorator(with_etag, mode="view")
            made.add_router(prefix, router)
    _refuse_open_operations(made)
    return made


def operations(made: NinjaAPI) -> list[tuple[str, Operation]]:
    """Return every operation with its path below /api/v1."""
    found: list[tuple[str, Operation]] = []
    for prefix, router in made._routers:  # noqa: SLF001 (ninja has no public list of them)
        for path, view in router.path_operations.items():
            found.extend((prefix + path, operation) for operation in view.operations)
    return found


def action_of(operation: Operation) -> str | None:
    """Return the action that an operation names; None where it names none."""
    callbacks = operation.auth_callbacks
    return next((found.action for found in callbacks if isinstance(found, Needs)), None)


def _refuse_open_operations(made: NinjaAPI) -> None:
    for path, operation in operations(made):
        if action_of(operation) is None:
            raise ValueError(f"{operation.methods} {path} names no action: auth=needs(…)")


def _map_errors(made: NinjaAPI) -> None:
    @made.exception_handler(Unauthorised)
    def unauthorised(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 (ninja's handlers)
        headers = {"WWW-Authenticate": 'Bearer realm="fleetward"'}
        return problem(401, str(error), headers=headers)

    @made.exception_handler(Forbidden)
    def forbidden(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 (see above)
        return problem(403, str(error))

    @made.exception_handler(Http404)
    def missing(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 (see above)
        return problem(404, "there is no such thing, or not at the sites of this token")

    @made.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 (see above)
        wrong = [{"where": list(map(str, e["loc"])), "why": e["msg"]} for e in error.errors]
        return problem(422, "some values are missing or wrong", errors=wrong)

    @made.exception_handler(HttpError)
    def refused(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 (see above)
        return problem(error.status_code, error.message)

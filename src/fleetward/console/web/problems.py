"""Errors of the API as `application/problem+json` (RFC 9457), whatever layer they come from."""

import json
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseBase

API = "/api/"
PROBLEM = "application/problem+json"


def problem(
    status: int, detail: str, *, errors: object = None, headers: dict[str, str] | None = None
) -> HttpResponse:
    """Return an error as a problem document.

    Args:
        status: the HTTP status code.
        detail: what happened and what to do.
        errors: which fields, where some are wrong.
        headers: further headers, as WWW-Authenticate.
    """
    document: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        document["errors"] = errors
    body = json.dumps(document, ensure_ascii=False)
    return HttpResponse(body, status=status, content_type=PROBLEM, headers=headers)


class ProblemAnswers:
    """Turns errors under /api/ that are no problem documents (unknown URL, wrong method) into some."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer; errors as problems."""
        response = self._get_response(request)
        is_error = response.status_code >= HTTPStatus.BAD_REQUEST
        is_problem = response.headers.get("Content-Type", "").startswith(PROBLEM)
        if not request.path.startswith(API) or not is_error or is_problem:
            return response
        kept = {name: response[name] for name in ("Allow", "Retry-After") if name in response}
        return problem(response.status_code, _DETAILS.get(response.status_code, ""), headers=kept)


_DETAILS = {
    400: "The request cannot be read; see the OpenAPI document at /api/v1/openapi.json.",
    403: "Not allowed.",
    404: "There is nothing here; see the OpenAPI document at /api/v1/openapi.json.",
    405: "This method is not answered here; see the Allow header.",
    500: "The console failed; its log has the reason.",
}

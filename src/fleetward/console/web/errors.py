"""Error pages: each says what happened and what to do next."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

_WORDS = {
    400: ("The request cannot be read", "Go back and try again."),
    403: (
        "Not allowed",
        "Your groups do not permit this. An administrator can change that under Settings.",
    ),
    404: (
        "Nothing here",
        "The address may be mistyped, or what it showed is gone or lies at another's site.",
    ),
    429: ("Too many attempts", "Wait a while, then try again."),
    500: ("The console failed", "The log of the console has the reason. Try again."),
}


def error_page(
    request: HttpRequest, status: int, *, title: str = "", detail: str = ""
) -> HttpResponse:
    """Return the page for an error; other words where given."""
    usual, advice = _WORDS.get(status, (HTTPStatus(status).phrase, ""))
    words = {"title": title or usual, "detail": detail or advice, "status": status}
    return render(request, "error.html", words, status=status)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for 400; plain, since the very host name may be what is wrong."""
    return HttpResponse(
        "The request cannot be read. If you came by another host name than the console's own, "
        "add it to `hosts` in its settings.\n",
        status=400,
        content_type="text/plain; charset=utf-8",
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for 403."""
    return error_page(request, 403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Return the page for 404."""
    return error_page(request, 404)


def failed(request: HttpRequest) -> HttpResponse:
    """Return the page for 500."""
    return error_page(request, 500)


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return the page where a form's token is not the browser's."""
    return error_page(
        request,
        403,
        title="The form is out of date",
        detail="It came from another session or site. Go back, reload the page, and send it again.",
    )

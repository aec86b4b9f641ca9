"""Static files by whitenoise, as whole small answers.

Whitenoise answers with an open file, which under ASGI Django reads through a warning; the console's
files are a few dozen kilobytes each.
"""

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Whitenoise, answering with bytes."""

    @staticmethod
    def serve(static_file: object, request: HttpRequest) -> HttpResponse:
        """Return the answer to a request for a static file."""
        answer = static_file.get_response(request.method, request.META)  # type: ignore[attr-defined]
        content = b""
        if answer.file is not None:
            with answer.file as file:
                content = file.read()
        response = HttpResponse(content, status=int(answer.status))
        del response["content-type"]
        for key, value in answer.headers:
            response[key] = value
        response.headers.pop("Access-Control-Allow-Origin", None)
        return response

"""ETags of the API's answers."""

import hashlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response


def with_etag(answer: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Give answers to GET an ETag, and 304 to who has them already."""

    @wraps(answer)
    def tagged(request: HttpRequest, *args: Any, **captured: Any) -> HttpResponse:  # noqa: ANN401 (captures)
        response = answer(request, *args, **captured)
        if request.method not in {"GET", "HEAD"} or response.status_code != 200:
            return response
        digest = hashlib.sha256(response.content).hexdigest()[:32]
        response.headers.setdefault("ETag", f'"{digest}"')
        response.headers["Cache-Control"] = "private, no-cache"
        return get_conditional_response(request, etag=response["ETag"], response=response)  # type: ignore[return-value]

    return tagged

"""The API keeps to its own document, whatever a program sends it."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from ninja import Schema
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from console.cast import add_person, add_site, token_of
from fleetward.console.api.frame import api, operations
from fleetward.console.permissions import Role, Scope

EXAMPLES = 25
"""Requests per operation; `make slow` sends more."""

OPERATIONS = sorted(
    (method, f"/api/v1{path}")
    for path, operation in operations(api())
    for method in operation.methods
)


@contextmanager
def one_connection() -> Iterator[None]:
    """Keep the test's own database connection over requests, as Django's client does for its own."""
    for each in (request_started, request_finished):
        each.disconnect(close_old_connections)
    try:
        yield
    finally:
        for each in (request_started, request_finished):
            each.connect(close_old_connections)


def test_no_two_shapes_share_a_name() -> None:
    """The document names shapes by their classes: of two that share a name, one would be lost."""
    shapes = [
        shape
        for _, module in sorted(sys.modules.items())
        if module.__name__.startswith("fleetward.console")
        for shape in vars(module).values()
        if isinstance(shape, type) and issubclass(shape, Schema)
        if shape.__module__ == module.__name__
    ]
    assert len(shapes) > 50
    names = Counter(shape.__name__ for shape in shapes)
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_an_operation_answers_as_its_document_says(method: str, path: str) -> None:
    """Generated requests, right and wrong: no 5xx, no answer that the document does not have."""
    root = add_person("root", *Role)
    add_site("berlin")
    headers = {"Authorization": f"Bearer {token_of(root, *Scope)}", "Host": "testserver"}
    document: dict[str, Any] = Client().get("/api/v1/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    schema.app = get_wsgi_application()
    schema.config.update(base_url="http://testserver")
    operation = schema[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def exchange(case: Any) -> None:  # noqa: ANN401 (schemathesis' case)
        response = case.call(headers=headers)
        # The test sends its own token in place of what was made up; and a name may have the right
        # form and be nobody's.
        excluded = [ignored_auth, positive_data_acceptance]
        case.validate_response(response, excluded_checks=excluded)

    with one_connection():
        exchange()

"""Each wired interaction leaves exactly one row, granted or refused: a new route without one fails.

https://hl7.org/fhir/R4/http.html#summary
"""

from typing import Any, Final

import httpx
import pytest

from fhir_server.access.policy import ClosedPolicy
from fhir_server.interactions.routing import Route
from fhir_server.interactions.table import ROUTER
from fhir_server.storage.audited import AuditRow
from tests.audit.conftest import Rows
from tests.conftest import Restrict

ROUTES: Final = [
    *(("Patient", route) for route in ROUTER.routes),
    *((name, route) for name, routes in ROUTER.own.items() for route in routes),
]
NAMES: Final = [f"{route.method} {route.pattern} of {name}" for name, route in ROUTES]
KIM: Final = {"resourceType": "Patient", "id": "kim", "gender": "other"}
NOTHING: Final = {"resourceType": "Parameters"}
BUNDLE: Final = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"request": {"method": "PUT", "url": "Patient/kim"}, "resource": KIM}],
}
MERGE: Final = [{"op": "add", "path": "/active", "value": True}]
OPERATIONS: Final = {
    "{operation}": "$export",
    "{type}/{operation}": "$validate",
    "{type}/{id}/{operation}": "$meta",
}
BODIES: Final[dict[str, Any]] = {
    "batch": BUNDLE,
    "create": {"resourceType": "Patient"},
    "update": KIM,
    "patch": MERGE,
}


EVENT: Final = {
    "resourceType": "AuditEvent",
    "id": "1",
    "type": {"display": "x"},
    "recorded": "2026-03-01T10:00:00Z",
    "agent": [{"requestor": True}],
    "source": {"observer": {"display": "x"}},
}


def _asked(name: str, route: Route) -> tuple[str, dict[str, Any]]:
    """An address of the route, and what is sent there."""
    path = route.pattern.replace("{operation}", OPERATIONS.get(route.pattern, ""))
    named = {"{type}": name, "{id}": "kim" if name == "Patient" else "1", "{version}": "1"}
    if path.startswith("_jobs"):
        named["{member}"] = "file"
    for place, value in {**named, "{member}": "CarePlan"}.items():
        path = path.replace(place, value)
    code = route.interaction.code
    if route.interaction.resolve is not None and route.method != "POST":
        path += "?_id=kim"
    if route.method in ("GET", "DELETE"):
        return path, {}
    if code.startswith("search-"):
        return path, {"data": {"_count": "5"}}
    if name == "AuditEvent" and code in ("create", "update"):
        return path, {"json": EVENT}
    sent: dict[str, Any] = {"json": BODIES.get(code, NOTHING)}
    if code == "operation" and "validate" in path:
        sent = {"json": {"resourceType": name, "id": "kim"}}
    if code == "patch":
        sent["headers"] = {"content-type": "application/json-patch+json"}
    return path, sent


async def _added(
    client: httpx.AsyncClient, rows: Rows, name: str, route: Route
) -> tuple[httpx.Response, AuditRow]:
    """The answer, and the one row that it left."""
    before = len(await rows())
    path, sent = _asked(name, route)
    answer = await client.request(route.method, path, **sent)
    (row,) = (await rows())[before:]
    return answer, row


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("name", "route"), ROUTES, ids=NAMES)
async def test_leaves_one_row_that_names_caller_interaction_and_outcome(
    client: httpx.AsyncClient, rows: Rows, name: str, route: Route
) -> None:
    answer, row = await _added(client, rows, name, route)
    refused = answer.status_code >= 400
    assert row.caller == "anonymous"
    assert row.asked.startswith(f"{route.method} /")
    assert (row.outcome, row.address) == ("4" if refused else "0", "127.0.0.1")
    assert row.request_id == answer.headers["x-request-id"]
    assert bool(row.description) == refused
    assert row.action != "unknown"
    if answer.status_code < 300 and "{id}" in route.pattern and "{member}" not in route.pattern:
        assert row.targets[0].startswith(f"{name}/")
    if "jobs" not in route.pattern:
        assert answer.status_code < 500


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(("name", "route"), ROUTES, ids=NAMES)
async def test_is_audited_where_the_caller_may_do_nothing(
    client: httpx.AsyncClient, rows: Rows, restrict: Restrict, name: str, route: Route
) -> None:
    """ATTACKS.md class 29: every denied access is told, and shows nobody."""
    restrict(ClosedPolicy(), "stranger")
    answer, row = await _added(client, rows, name, route)
    assert row.caller == "stranger"
    assert row.outcome == ("4" if answer.status_code >= 400 else "0")
    assert not [target for target in row.targets if "/_history/" in target]

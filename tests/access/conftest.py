"""The session is tried on every backend, as the storage contract is; the interface on one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fhir_server.access.caller import ANONYMOUS, Caller
from fhir_server.access.case import Terms
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.decisions import TableDecisions
from fhir_server.access.facts import remaking
from fhir_server.access.policy import OpenPolicy
from fhir_server.access.session import Session, SessionUnit
from fhir_server.app import Application
from fhir_server.fhir.json import Resource
from fhir_server.http.messages import HttpRequest
from fhir_server.settings import Settings
from fhir_server.storage.clock import system_clock
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access.deciding import NURSE, Decided
from tests.storage.conftest import backend, store

__all__ = ["backend", "store"]

As = Callable[..., None]
ByTable = Callable[..., None]


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Without the profiles for a module with `PROFILED = False`.

    What a profile refuses is no test of who may write.
    """
    profiled = getattr(request.module, "PROFILED", settings.keyworking_profiles)
    return settings.model_copy(update={"keyworking_profiles": profiled})


@pytest.fixture
def signed_in(app: Application) -> As:
    """From now on whoever asks the application is that caller, of whom that was decided."""

    def sign_in(decided: Decided, caller: Caller = NURSE) -> None:
        def open_session(request: HttpRequest) -> Session:
            now = replace(caller, request_id=request.request_id)
            policy = ConsentPolicy(decided, now, system_clock)
            return Session(app.state.store, now, policy, rules=app.state.server.rules)

        assert app.fhir is not None
        app.fhir._open_session = open_session

    return sign_in


@pytest.fixture
async def by_table(app: Application, settings: Settings) -> ByTable:
    """From now on whoever asks is that caller, and the decision table decides by what is stored."""
    await remaking.ensure(app.state.store)
    usual = TableDecisions(Terms({"S11": "social-care"}))

    def sign_in(caller: Caller, now: int | None = None, *, units: tuple[str, ...] = ()) -> None:
        decisions = TableDecisions(Terms(inpatient_units=frozenset(units))) if units else usual

        def clock() -> int:
            return system_clock() if now is None else now

        def open_session(request: HttpRequest) -> Session:
            asking = replace(caller, request_id=request.request_id)
            policy = ConsentPolicy(decisions, asking, clock)
            found = Session(app.state.store, asking, policy, rules=app.state.server.rules)
            found.epochs = app.state.store if isinstance(app.state.store, SqliteStore) else None
            return found

        assert app.fhir is not None
        app.fhir._open_session = open_session
        app.fhir.server = replace(app.fhir.server, clock=clock)

    assert settings.auth == "none"
    return sign_in


async def stored(app: Application, *resources: Resource) -> None:
    """Written by somebody who may do everything, as commits write: with what they contribute."""

    async def work(unit: SessionUnit) -> None:
        for resource in resources:
            await unit.put(resource, "PUT")

    await Session(app.state.store, ANONYMOUS, OpenPolicy()).commit("set up", work)

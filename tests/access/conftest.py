"""The session is tried on every backend, as the storage contract is; the interface on one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.consent_policy import ConsentPolicy
from fhir_server.access.session import Session
from fhir_server.app import Application
from fhir_server.http.messages import HttpRequest
from fhir_server.storage.clock import system_clock
from tests.access.deciding import NURSE, Decided
from tests.storage.conftest import backend, store

__all__ = ["backend", "store"]

As = Callable[..., None]


@pytest.fixture
def signed_in(app: Application) -> As:
    """From now on whoever asks the application is that caller, of whom that was decided."""

    def sign_in(decided: Decided, caller: Caller = NURSE) -> None:
        def open_session(request: HttpRequest) -> Session:
            now = replace(caller, request_id=request.request_id)
            return Session(app.state.store, now, ConsentPolicy(decided, now, system_clock))

        assert app.fhir is not None
        app.fhir._open_session = open_session

    return sign_in

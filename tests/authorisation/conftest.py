"""A server with one machine that is registered, within the test's own loop."""

import pytest

from fhir_server.access.ledger import Ledger
from fhir_server.app import Application
from fhir_server.authorisation.authority import Authority
from fhir_server.storage.interface import Store
from tests.authorisation.machines import Machine


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


@pytest.fixture
def authority(app: Application) -> Authority:
    found: Authority = app.state.authority
    return found


@pytest.fixture
async def ward(ledger: Ledger) -> Machine:
    machine = Machine()
    await machine.register(
        ledger, ods_code="RXX01", roles=("auditor",), purposes=("TREAT", "ETREAT")
    )
    return machine

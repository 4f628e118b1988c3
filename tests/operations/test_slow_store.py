"""A store that is slow now loses no event: what it cannot take is to be sent again."""

from datetime import datetime
from pathlib import Path

import httpx
import pytest

from fhir_server.access.session import SessionUnit
from fhir_server.app import create_app
from fhir_server.settings import Settings
from fhir_server.storage.patience import OutOfTime
from fhir_server.storage.sqlite import opened, reader
from tests.operations.chart import Chart
from tests.operations.messages import Spell
from tests.support import assert_outcome, body

V3_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ADMITTED = datetime.fromisoformat("2026-06-03T19:40:00+01:00")


async def test_an_event_is_stored_once_where_the_store_is_slow_for_a_moment(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = 0
    attest = SessionUnit.attest

    async def hiccup(self: SessionUnit) -> None:
        nonlocal begun
        begun += 1
        if begun < 3:
            raise OutOfTime(1.0)
        await attest(self)

    monkeypatch.setattr(SessionUnit, "attest", hiccup)
    stay = Spell(chart.nhs_number, ADMITTED)
    answer = await chart.client.post("$process-message", **body(stay.admit()))
    assert (answer.status_code, begun) == (200, 3), answer.text
    found = (await chart.client.get("Encounter")).json()
    assert [entry["resource"]["status"] for entry in found["entry"]] == ["in-progress"]


async def test_an_event_is_asked_for_again_where_a_clients_own_criteria_are_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "_PATIENCE_INSIDE", 0.0)
    monkeypatch.setattr(reader, "_PROGRESS_STEPS", 1)
    app = create_app(settings.model_copy(update={"store": f"sqlite:///{tmp_path}/slow.db"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            stay = Spell(Chart(client, app.state.store).nhs_number, ADMITTED)
            refused = await client.post("$process-message", **body(stay.admit()))
            assert_outcome(refused, 503, "transient", "send it again")
            assert "retry-after" in refused.headers
            named = {"resourceType": "Patient", "identifier": [{"system": "s", "value": "2"}]}
            patient = (await client.post("Patient", **body(named))).json()
            plain = {
                "resourceType": "Encounter",
                "status": "in-progress",
                "class": {"system": V3_ACT, "code": "IMP"},
                "subject": {"reference": f"Patient/{patient['id']}"},
            }
            refused = await client.post("Encounter", **body(plain))
            assert_outcome(refused, 503, "transient", "send it again")
            assert "entry" not in (await client.get("Encounter")).json()

            asked = body({"resourceType": "Patient"})
            asked["headers"]["if-none-exist"] = "identifier=s|1"
            conditional = await client.post("Patient", **asked)
            assert_outcome(conditional, 403, "too-costly", "narrow it")

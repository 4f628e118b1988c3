"""Records that no rule followed up get their Tasks from the scheduler, without a further write."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fhir_server.access import moments
from fhir_server.app import Application
from fhir_server.cli import main
from fhir_server.fhir import canonicals
from fhir_server.jobs.scheduler import Scheduler
from fhir_server.settings import Settings
from fhir_server.timing import scheduler
from tests.jobs import later
from tests.operations.chart import Chart, code_of, concept
from tests.operations.messages import JSON, Spell
from tests.operations.timing import NOW, begin, days_ago, in_days
from tests.support import body


@pytest.fixture
def worker(app: Application) -> Scheduler:
    return scheduler(app.state.store, app.state.server)


def _stay(chart: Chart) -> JSON:
    stay = Spell(chart.nhs_number, NOW).encounter()
    return {**stay, "id": "stay", "subject": {"reference": chart.patient}}


async def _import(chart: Chart, *resources: JSON) -> None:
    sent = {"content-type": "application/fhir+ndjson"}
    content = b"\n".join(body(one)["content"] for one in resources)
    manifest = await later(chart.client, "POST", "$import", content=content, headers=sent)
    assert manifest["error"] == []


async def test_an_imported_stay_gets_its_tasks_without_a_further_write(
    unknown: Chart, worker: Scheduler
) -> None:
    await begin(unknown)
    other = {"resourceType": "Patient", "id": "nobody-s-concern", "birthDate": "1950-01-01"}
    await _import(unknown, other, _stay(unknown))
    assert await unknown.all("Task") == []
    assert await worker.work() == 1, "the other is of no concern"
    assert "contact-hospital" in await unknown.dues()
    assert await worker.work() == 0


async def test_what_is_history_brings_no_tasks(unknown: Chart, worker: Scheduler) -> None:
    await begin(unknown)
    left = {"start": "2023-01-05T09:00:00Z", "end": "2023-02-05T09:00:00Z"}
    home = {"dischargeDisposition": concept(canonicals.DISCHARGE_DESTINATION, "19")}
    over = {"status": "finished", "period": left, "hospitalization": home}
    await _import(unknown, {**_stay(unknown), **over})
    assert await worker.work() == 1
    assert await unknown.all("Task") == []


async def test_an_imported_red_is_that_of_its_stay_and_is_not_given_again(chart: Chart) -> None:
    left = NOW - timedelta(days=3)
    home = {"dischargeDisposition": concept(canonicals.DISCHARGE_DESTINATION, "19")}
    period = {"start": (NOW - timedelta(days=9)).isoformat(), "end": left.isoformat()}
    over = {"status": "finished", "period": period, "hospitalization": home}
    (amber,) = await chart.all("Flag")
    floor = {"url": canonicals.MINIMUM_UNTIL_EXTENSION, "valueDate": in_days(11)}
    red = {**amber, "id": "red", "code": concept(canonicals.DSR_RATING, "red")}
    red |= {"period": {"start": days_ago(3)}, "extension": [floor]}
    await _import(chart, {**_stay(chart), **over}, red)
    await chart.tell(Spell(chart.nhs_number, NOW - timedelta(days=1)).admit())
    reds = [one for one in await chart.all("Flag") if code_of(one["code"]) == "red"]
    assert [(one["id"], one["period"]["start"]) for one in reds] == [("red", days_ago(3))]


async def test_what_is_imported_over_it_is_looked_at_again(
    unknown: Chart, worker: Scheduler
) -> None:
    await begin(unknown)
    await unknown.write(_stay(unknown))
    assert "T-CETR-POSTADM" in await unknown.dues()
    stay = (await unknown.client.get("Encounter/stay")).json()
    planned = concept(canonicals.ADMISSION_METHOD, "11")
    method = {"url": canonicals.ADMISSION_METHOD_EXTENSION, "valueCodeableConcept": planned}
    await _import(unknown, {**stay, "hospitalization": {"extension": [method]}})
    assert "T-CETR-POSTADM" in await unknown.dues()
    assert await worker.work() == 1
    assert "T-CETR-POSTADM" not in await unknown.dues()


async def test_files_that_are_loaded_are_writes_like_others(unknown: Chart) -> None:
    """`keyworking load` puts what has an id: its effects are there at once."""
    await begin(unknown)
    period = {"start": days_ago(3), "end": in_days(300)}
    await unknown.consent("register", provision={"type": "permit", "period": period})
    assert (await unknown.client.put("Encounter/stay", **body(_stay(unknown)))).status_code == 201
    assert await unknown.colour() == "blue"
    assert "contact-hospital" in await unknown.dues()


@pytest.mark.parametrize("whole", [False, True])
async def test_everybody_is_looked_at_who_was_not(
    unknown: Chart, worker: Scheduler, whole: bool
) -> None:
    """`keyworking reconcile`: of a store from before there were rules, no moment is known."""
    await begin(unknown)
    await unknown.write(_stay(unknown))
    await unknown.write({"resourceType": "Patient", "id": "known", "birthDate": "1950-01-01"})
    await unknown.store.commit(lambda unit: moments.keep(unit, "known", 2**60))
    await unknown.store.commit(lambda unit: moments.keep(unit, "young-person", None))
    assert await moments.look_at_all(unknown.store, 1000, whole=whole) == 1 + whole
    assert await moments.come(unknown.store, 1000, 9) == ["known", "young-person"][not whole :]
    assert await worker.work() == 1 + whole
    assert await moments.of(unknown.store, "young-person") is not None, "the next is known"


async def test_the_command_says_how_many_there_are(
    unknown: Chart, settings: Settings, tmp_path: Path
) -> None:
    await begin(unknown)

    async def reconcile(store: str, *options: str) -> Result:
        asked = ["reconcile", "--store", store, *options]
        return await asyncio.to_thread(CliRunner().invoke, main, asked)

    assert (await reconcile(settings.store)).output == "To be looked at: 1\n"
    assert (await reconcile(settings.store)).output == "To be looked at: 0\n"
    missing = await reconcile(f"sqlite:///{tmp_path / 'no.db'}")
    assert missing.exit_code == 1
    assert "There is no store" in missing.output

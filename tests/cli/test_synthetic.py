"""What `keyworking serve --synthetic-caseload` prints: every line works at every start."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fhir_server.app import create_app
from fhir_server.fhir import nhs_number
from fhir_server.settings import Settings
from fhir_server.story import goes_to_hospital
from fhir_server.synthetic import _ensure_loaded
from tests.cli.printed import PRINTED, printed_lines, request_of
from tests.operations.messages import Spell
from tests.support import body, write_over

PROMISED: Final = {
    **PRINTED,
    "How likely is an admission?": r'"name": ?"rating"',  # not amber any more after a try
}
ADMISSION: Final = "The ward tells of an admission"
DISCHARGE: Final = "The ward tells of the discharge"


class Start:
    """One start of the server: what it printed, to be run against it."""

    def __init__(self, lines: list[str], client: httpx.AsyncClient, folder: Path) -> None:
        self.steps = dict(printed_lines("\n".join(lines)))
        self.client = client
        self._folder = folder

    async def run(self, *comments: str) -> dict[str, str]:
        """The answers to these lines; each keeps its promise."""
        answers = {}
        for comment in comments:
            method, url, headers, content = request_of(self.steps[comment], self._folder)
            answer = await self.client.request(method, url, headers=headers, content=content)
            assert answer.status_code == 200, (comment, answer.text)
            assert re.search(PROMISED[comment], answer.text), (comment, answer.text)
            answers[comment] = answer.text
        return answers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which the server is started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[Start]:
    """As `keyworking serve --synthetic-caseload` starts."""
    given = Settings(auth="none", **settings)
    lines = await _ensure_loaded(given, tokens=False)
    app = create_app(given)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        base = given.base + "/"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            yield Start(lines, client, folder)


async def test_every_line_works_after_a_try_that_broke_off_after_the_admission(
    folder: Path,
) -> None:
    async with started(folder) as first:
        told = await first.run(ADMISSION)
    async with started(folder) as second:
        assert await second.run(ADMISSION) == told
        await second.run(*PROMISED)
        stays = await second.client.get("Encounter?class=IMP&status=in-progress")
        assert len(stays.json()["entry"]) == 2  # the two of the caseload


async def test_every_line_works_at_every_start_whatever_was_tried_before(folder: Path) -> None:
    tries: list[list[str]] = [
        [],
        [ADMISSION],
        [],
        [ADMISSION, DISCHARGE],
        [DISCHARGE],
        [ADMISSION],
        [*PROMISED],
        [*PROMISED],
    ]
    for number, comments in enumerate(tries):
        async with started(folder) as start:
            assert list(start.steps) == list(PROMISED), number
            await start.run(*comments)


async def test_somebody_else_is_admitted_while_another_ward_has_the_young_person(
    folder: Path,
) -> None:
    number = nhs_number.synthetic(int(goes_to_hospital()[-3:]))
    elsewhere = Spell(number, datetime.now(UTC) - timedelta(days=2))
    async with started(folder) as first:
        posted = await first.client.post("$process-message", **body(elsewhere.admit()))
        assert posted.status_code == 200, posted.text
    for comments in ([ADMISSION], [*PROMISED], [*PROMISED]):
        async with started(folder) as start:
            assert goes_to_hospital() not in "".join(start.steps.values())
            await start.run(*comments)


async def test_somebody_else_is_admitted_when_the_young_person_has_no_plan(folder: Path) -> None:
    async with started(folder) as first:
        mine = f"CarePlan?subject=Patient/{goes_to_hospital()}&status=active"
        plans = (await first.client.get(mine)).json()["entry"]
        for entry in plans:
            plan = {**entry["resource"], "status": "completed"}
            stored = await write_over(first.client, plan)
            assert stored.status_code == 200, stored.text
    async with started(folder) as second:
        assert goes_to_hospital() not in "".join(second.steps.values())
        await second.run(*PROMISED)


async def test_without_anybody_to_admit_what_is_printed_still_works(folder: Path) -> None:
    async with started(folder) as first:
        for page in range(1, 31):
            await first.client.delete(f"Patient/kw-synthetic-{page:03d}")
            mine = await first.client.get(f"CarePlan?patient=kw-synthetic-{page:03d}")
            for entry in mine.json().get("entry", ()):
                plan = {**entry["resource"], "status": "revoked"}
                await write_over(first.client, plan)
    async with started(folder) as second:
        assert list(second.steps) == ["Who is supported?", "What can this server do?"]
        await second.run("What can this server do?")


async def test_the_messages_of_the_usual_store_are_where_the_readme_says(folder: Path) -> None:
    async with started(folder) as start:
        assert start.steps[ADMISSION].endswith(" -d @var/try/admission.json")
    assert (folder / "var" / "try" / "admission.json").is_file()


async def test_two_servers_in_one_folder_do_not_overwrite_each_other_s_messages(
    folder: Path,
) -> None:
    async with started(folder, store="sqlite:///./var/one.db", port=8081) as one:
        await one.run(ADMISSION)
        async with started(folder, store="sqlite:///./var/other one.db", port=8082) as other:
            await other.run(*PROMISED)
        await one.run(*PROMISED)

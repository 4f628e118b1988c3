"""The short way of plain reads closes as soon as anything that a decision hangs on does."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.access.session import Session, StoredVersion
from fhir_server.app import Application
from fhir_server.http.rates import rates
from fhir_server.storage.interface import Store
from fhir_server.storage.sqlite.store import SqliteStore
from tests.access import issuing
from tests.access.deciding import about
from tests.access.following import delete, write
from tests.access.people import child, consent, episode, member, team
from tests.access.served import served
from tests.http.wired import Wired, get

pytestmark = pytest.mark.sqlite_alone
GOAL: Final = "Goal/g"
GOALS: Final = "Goal?subject=Patient/1&_count=5"
EPISODE: Final = episode("Practitioner/kw", team=[{"reference": "CareTeam/t"}])


def token(**changed: Any) -> tuple[str, str]:
    now = int(time.time())
    told = {"exp": now + 900, "iat": now, "nbf": now, "scope": "system/*.rs user/*.rs"}
    told |= {"fhirUser": "Practitioner/kw", "ods_code": "X26", "client_id": "a"}
    return "Authorization", f"Bearer {issuing.token(**{**told, **changed})}"


class Asking:
    """One server, asked for the same in the short way."""

    def __init__(self, app: Application) -> None:
        self.app: Final = app
        self.wired: Final = Wired(app)

    async def status(self, *headers: tuple[str, str]) -> int:
        """After it was asked once, so that whatever may be kept is kept."""
        told = [await self.wired.usually(get(GOAL, *headers)) for _ in range(3)]
        assert await self.wired.generally(get(GOAL, *headers)) == told[-1]
        statuses = {int(one.answer[9:12]) for one in told}
        assert len(statuses) == 1, statuses
        return statuses.pop()

    async def is_open(self, *headers: tuple[str, str]) -> bool:
        before = self.wired.short
        found = await self.status(*headers)
        assert found in (200, 404)
        assert self.wired.short - before >= 2
        assert await self._finds(*headers) is (found == 200)
        return found == 200

    async def _finds(self, *headers: tuple[str, str]) -> bool:
        """Whether a search shows it, in the short way too."""
        before = self.wired.short
        told = [await self.wired.usually(get(GOALS, *headers)) for _ in range(2)]
        told.append(await self.wired.generally(get(GOALS, *headers)))
        assert len({(one.answer, one.rows) for one in told}) == 1
        assert self.wired.short - before >= 1
        return b'/Goal/g"' in told[0].answer


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    async with served(tmp_path, max_failure_rate=0) as (app, _):
        await write(app.state.store, child(), about("Goal", "g", "1"), consent())
        await write(app.state.store, EPISODE, team(member("Practitioner/nurse")))
        yield Asking(app)


@pytest.fixture
async def other(asking: Asking, tmp_path: Path) -> AsyncIterator[Store]:
    """The store as another process has it open."""
    assert asking
    found = SqliteStore(tmp_path / "region.db")
    yield found
    await found.close()


async def test_a_withdrawal_closes_at_once_also_from_another_process(
    asking: Asking, other: Store
) -> None:
    keyworker, nurse = token(), token(fhirUser="Practitioner/nurse", jti="nurse")
    for store in (asking.app.state.store, other):
        assert await asking.is_open(nurse)
        await write(store, consent(status="inactive"))
        assert not await asking.is_open(nurse)
        await write(store, consent())
        assert await asking.is_open(nurse)
        assert await asking.is_open(keyworker)
        await delete(store, "EpisodeOfCare", "e")
        assert not await asking.is_open(keyworker)
        await write(store, EPISODE)


async def test_what_is_written_is_read(asking: Asking, other: Store) -> None:
    for store, words in ((asking.app.state.store, "to sleep"), (other, "to sleep well")):
        await asking.is_open(token())
        await write(store, {**about("Goal", "g", "1"), "description": {"text": words}})
        assert f'"{words}"'.encode() in (await asking.wired.usually(get(GOAL, token()))).answer
    await delete(other, "Goal", "g")
    assert await asking.status(token()) == 410


async def test_one_token_is_nobody_elses(asking: Asking) -> None:
    assert await asking.is_open(token())
    assert not await asking.is_open(token(fhirUser="Practitioner/stranger", jti="2"))
    assert await asking.status(token(scope="system/Patient.rs", jti="3")) == 403
    assert await asking.status() == 401
    name, value = token()
    assert await asking.status((name, value[:-3])) == 401
    assert await asking.is_open(token())


async def test_whoever_may_read_may_not_search_by_that(asking: Asking) -> None:
    reads, searches = (token(scope=f"system/*.{one}", jti=one) for one in "rs")
    assert await asking.status(reads) == 200
    assert await asking.status(searches) == 403
    for told, status in ((reads, b"403"), (searches, b"200")):
        for ask in (asking.wired.usually, asking.wired.usually, asking.wired.generally):
            assert (await ask(get(GOALS, told))).answer[9:12] == status


async def test_a_token_ends_when_it_expires(asking: Asking) -> None:
    told = token(exp=int(time.time()) + 600)
    assert await asking.is_open(told)
    authenticator = asking.app.fhir._authenticate.__self__  # type: ignore[union-attr]
    clock, authenticator._clock = authenticator._clock, lambda: clock() + 15 * 60 * 1_000_000
    assert await asking.status(told) == 401


async def test_a_token_that_is_revoked_is_no_good(asking: Asking) -> None:
    told, revoked = token(jti="mine"), set[str]()

    class Revoked:
        async def revoked(self, issuer: str, jti: str) -> bool:
            return bool(issuer) and jti in revoked

    authenticator = asking.app.fhir._authenticate.__self__  # type: ignore[union-attr]
    object.__setattr__(authenticator._trust, "revocations", Revoked())
    assert await asking.is_open(told)
    revoked.add("mine")
    assert await asking.status(told) == 401


async def test_what_is_hidden_is_that_of_what_is_absent(asking: Asking) -> None:
    stranger = token(fhirUser="Practitioner/stranger", jti="2")
    hidden = await asking.wired.usually(get("Goal/g", stranger))
    absent = await asking.wired.usually(get("Goal/h", stranger))
    assert hidden.answer.replace(b"Goal/g", b"Goal/h") == absent.answer


async def test_each_counts_for_the_bound_of_its_client(asking: Asking) -> None:
    assert asking.app.fhir is not None
    asking.app.fhir.rates = rates(0.001, 5, 0, 1)
    told = [(await asking.wired.usually(get(GOAL, token()))).answer[9:12] for _ in range(7)]
    assert told == [b"200"] * 5 + [b"429"] * 2
    assert await asking.status(token(client_id="b", jti="b")) == 200


async def test_who_has_no_turn_costs_no_read_of_the_store(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = Session.read

    async def counted(self: Session, resource_type: str, resource_id: str) -> StoredVersion | None:
        reads.append(resource_id)
        return await read(self, resource_type, resource_id)

    monkeypatch.setattr(Session, "read", counted)
    assert asking.app.fhir is not None
    asking.app.fhir.rates = rates(0.001, 5, 0, 1)
    for path in [GOAL] * 3 + ["Goal/none"] * 2:
        await asking.wired.usually(get(path, token()))
    assert {"g", "none"} <= {*reads}
    reads.clear()
    for path in [GOAL, "Goal/none"]:
        assert (await asking.wired.usually(get(path, token()))).answer[9:12] == b"429"
    assert reads == []


async def test_nothing_is_read_while_the_audit_cannot_be_written(asking: Asking) -> None:
    assert await asking.is_open(token())
    asking.app.state.trail._failing = True
    assert await asking.status(token()) == 503
    asking.app.state.trail._failing = False
    assert await asking.is_open(token())


async def test_who_asked_before_on_a_line_asks_no_more_for_others(asking: Asking) -> None:
    """All of them on one connection, as a proxy sends them."""
    keyworker, stranger = token(jti="1"), token(fhirUser="Practitioner/stranger", jti="2")
    revoked = set[str]()

    class Revoked:
        async def revoked(self, issuer: str, jti: str) -> bool:
            return bool(issuer) and jti in revoked

    authenticator = asking.app.fhir._authenticate.__self__  # type: ignore[union-attr]
    object.__setattr__(authenticator._trust, "revocations", Revoked())
    line = (keyworker,), (keyworker,), (stranger,), (keyworker,), (), (stranger,)
    asked = [get(path, *who) for who in line for path in (GOAL, GOALS)]
    for _ in range(2):
        found = await asking.wired.in_turn(asked)
        assert [one[9:12] for one in found] == [
            *(b"200", b"200", b"200", b"200", b"404", b"200", b"200", b"200"),
            *(b"401", b"401", b"404", b"200"),
        ]
        seen = [b'/Goal/g"' in one for one in found[1::2]]
        assert seen == [True, True, False, True, False, False]
    for path in (GOAL, GOALS):
        thrice = [get(path, keyworker)] * 3
        told = await asking.wired.in_turn([*thrice, lambda: revoked.add("1"), thrice[0]])
        assert [one[9:12] for one in told] == [b"200"] * 3 + [b"401"]
        revoked.clear()
    clock = authenticator._clock

    def expire() -> None:
        authenticator._clock = lambda: clock() + 16 * 60 * 1_000_000

    told = await asking.wired.in_turn([*[get(GOALS, keyworker)] * 3, expire, get(GOALS, keyworker)])
    assert [one[9:12] for one in told] == [b"200"] * 3 + [b"401"]

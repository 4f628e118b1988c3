"""Messages under a token: a sender changes what is its own, and learns nothing of the rest.

Classes 13, 14, 15 and 1 of the attacks: identifiers are guessed, and whoever guesses must neither
change nor hold up what others tell, nor learn whom the server knows.
"""

from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest

from fhir_server.access.caller import Caller
from fhir_server.app import Application
from fhir_server.fhir import canonicals, json, nhs_number
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import stable_id
from tests.access.conftest import ByTable, stored
from tests.access.people import (
    FIFTEEN,
    SENDS,
    child,
    episode,
    numbered,
    ods,
    organisation,
    ref,
    role,
)
from tests.access.test_messages import HTEST, all_of, told
from tests.operations.messages import JSON, SUBJECT, Spell, changed, renamed, with_entry
from tests.support import assert_outcome

PROFILED: Final = False

NUMBER: Final = "9990000018"
START: Final = datetime(2026, 5, 30, 8, tzinfo=UTC)
END: Final = datetime(2026, 5, 31, 8, tzinfo=UTC)
WARD: Final = Caller("ward", organisation="ZZK03", grants=SENDS)
OTHER: Final = Caller("other", organisation="Y11", grants=SENDS)
LOCAL: Final = [{"system": "https://ward.example/Id/observation", "value": "1"}]


def spell(number: str = NUMBER, born: str | None = None, value: str = "s1") -> Spell:
    return Spell(number, START, value=value, birth_date=born)


def of_other(message: JSON) -> JSON:
    """The same message in the name of the other organisation."""
    return changed(changed(message, 0, sender=ods("Y11")), 1, serviceProvider=ods("Y11"))


def observed(text: str, **rest: Any) -> JSON:
    return {
        "resourceType": "Observation",
        "identifier": LOCAL,
        "status": "final",
        "code": {"text": text},
        "subject": ref(SUBJECT),
        **rest,
    }


async def stay_told(client: httpx.AsyncClient, message: JSON) -> str:
    """The stay that the answer names."""
    answer = await told(client, message)
    assert answer.status_code == 200, answer.text
    (issue,) = answer.json()["issue"]
    return str(issue["diagnostics"]).rpartition(" ")[2]


async def texts(app: Application) -> list[str]:
    return sorted(one["code"]["text"] for one in await all_of(app, "Observation"))


async def test_class_14_a_message_leaves_what_others_wrote_under_the_same_identifier(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("1", identifier=numbered(NUMBER)))
    await stored(app, {**observed("the keyworker's"), "id": "o", "subject": ref("Patient/1")})
    by_table(WARD)
    await stay_told(client, with_entry(spell().admit(), observed("the ward's")))
    by_table(OTHER)
    other = of_other(spell(value="s2").admit())
    await stay_told(client, with_entry(other, observed("the other's")))
    assert await texts(app) == ["the keyworker's", "the other's", "the ward's"]


async def test_a_sender_corrects_what_it_told_before_until_somebody_else_changes_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("1", identifier=numbered(NUMBER)))
    by_table(WARD)
    await stay_told(client, with_entry(spell().admit(), observed("first")))
    await stay_told(client, with_entry(spell().update(), observed("corrected")))
    assert await texts(app) == ["corrected"]
    (known,) = await all_of(app, "Observation")
    await stored(app, {**known, "code": {"text": "looked at"}})
    await stay_told(client, with_entry(spell().update(), observed("told again")))
    assert await texts(app) == ["looked at", "told again"]


async def test_one_identifier_for_two_children_of_a_sender_is_no_reason_to_refuse(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    await stored(app, child("1", identifier=numbered(NUMBER)))
    by_table(WARD)
    await stay_told(client, with_entry(spell().admit(), observed("one")))
    another = spell("9990000026", value="s2").admit()
    await stay_told(client, with_entry(another, observed("another's")))
    assert await texts(app) == ["another's", "one"]


async def test_class_15_nobody_holds_up_anothers_message_by_its_identifier(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Neither by the message's own, nor by that of the stay."""
    message = spell().admit()
    by_table(OTHER)
    theirs = await stay_told(client, of_other(message))
    by_table(WARD)
    mine = await stay_told(client, message)
    assert mine != theirs
    assert len(await all_of(app, "Encounter")) == 2
    assert await stay_told(client, message) == mine
    assert len(await all_of(app, "Encounter")) == 2


async def test_class_14_a_stay_without_a_provider_is_ended_by_its_sender_alone(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(WARD)
    mine = await stay_told(client, spell().admit(serviceProvider=None))
    by_table(OTHER)
    ended = changed(spell().discharge(END, serviceProvider=None), 0, sender=ods("Y11"))
    assert await stay_told(client, ended) != mine
    by_table(WARD)
    assert await stay_told(client, spell().discharge(END, serviceProvider=None)) == mine


@pytest.mark.parametrize("known", ["1999-01-01", "2010-02-03", None])
async def test_class_1_a_guessed_date_of_birth_is_answered_as_no_such_child(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, known: str | None
) -> None:
    """Known with another, known with this one, not known: one answer, and one stay throughout."""
    if known:
        await stored(app, child("1", known, identifier=numbered(NUMBER)))
    by_table(WARD)
    guess = spell(born="2010-02-03")
    stay = await stay_told(client, with_entry(guess.admit(), observed("first")))
    assert await stay_told(client, with_entry(guess.update(), observed("again"))) == stay
    # Without a date, or with another, in the same spell as in one of its own.
    assert await stay_told(client, spell().update()) == stay
    assert await stay_told(client, spell(born="2010-02-04").update()) == stay
    for number, born in enumerate((None, "2010-02-03", "2010-02-04")):
        other = spell(born=born, value=f"other-{number}").admit()
        assert await stay_told(client, with_entry(other, observed("other"))) != stay


async def test_an_event_of_somebody_with_another_date_of_birth_is_not_lost(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """It is stored apart, and the keyworker finds out whose it is: once for each stay."""
    await stored(
        app,
        child("1", "1999-01-01", identifier=numbered(NUMBER)),
        episode("Practitioner/kw"),
        organisation("w", "ZZK03"),
    )
    by_table(WARD)
    both = {**ref(SUBJECT), "identifier": numbered(NUMBER)[0]}
    name = await stay_told(client, spell(born="2010-02-03").admit(subject=both))
    await stay_told(client, spell(born="2010-02-03").update(subject=both))
    (stay,) = await all_of(app, "Encounter")
    assert name == f"Encounter/{stay['id']}"
    assert stay["subject"]["reference"] != "Patient/1"
    (apart,) = [one for one in await all_of(app, "Patient") if one["id"] != "1"]
    assert stay["subject"]["reference"] == f"Patient/{apart['id']}"
    assert apart["birthDate"] == "2010-02-03"
    assert all(one["system"] != canonicals.NHS_NUMBER for one in apart["identifier"])
    found = [one for one in await all_of(app, "Task") if one["for"] == ref("Patient/1")]
    (task,) = [one for one in found if one["code"]["coding"][0]["code"] == "check-identity"]
    assert (task["owner"], task["focus"]) == (ref("Practitioner/kw"), ref(name))
    assert task["status"] == "requested"  # rules do not end it, though its stay is another's
    assert stay["subject"]["identifier"]["system"] != canonicals.NHS_NUMBER
    # The right one finds the child still, and nobody else's number is taken by it.
    await stay_told(client, spell(born="1999-01-01", value="s2").admit())
    stays = {one["subject"]["reference"] for one in await all_of(app, "Encounter")}
    assert stays == {"Patient/1", f"Patient/{apart['id']}"}


async def test_an_event_under_a_number_that_two_children_have_is_not_lost(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    twins = [child(one, identifier=numbered(NUMBER)) for one in ("1", "2")]
    await stored(app, *twins, child("t", identifier=numbered(NUMBER), meta={"tag": [HTEST]}))
    by_table(WARD)
    await stay_told(client, spell().admit())
    (stay,) = await all_of(app, "Encounter")
    assert stay["subject"]["reference"] not in ("Patient/1", "Patient/2", "Patient/t")
    asked = [
        one for one in await all_of(app, "Task") if one["focus"] == ref(f"Encounter/{stay['id']}")
    ]
    asked = [one for one in asked if "whose stay" in one["code"]["text"]]
    assert {one["for"]["reference"] for one in asked} == {"Patient/1", "Patient/2"}


async def test_test_data_takes_no_number_from_a_child(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    test = child("t", identifier=numbered(NUMBER), meta={"tag": [HTEST]})
    await stored(app, child("1", identifier=numbered(NUMBER)), test)
    by_table(WARD)
    await stay_told(client, spell().admit())
    (stay,) = await all_of(app, "Encounter")
    assert stay["subject"] == ref("Patient/1")


async def test_a_number_that_no_person_has_finds_test_data_where_nobody_else_has_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """As a ward does that tries the synthetic caseload."""
    assert nhs_number.is_for_tests(NUMBER)
    await stored(app, child("t", identifier=numbered(NUMBER), meta={"tag": [HTEST]}))
    by_table(WARD)
    await stay_told(client, spell().admit())
    await stay_told(client, spell().update())
    (stay,) = await all_of(app, "Encounter")
    assert stay["subject"] == ref("Patient/t")
    (kept,) = await all_of(app, "Patient")
    assert (kept["birthDate"], kept["meta"]["versionId"]) == (FIFTEEN, "1")


async def test_a_ward_that_tries_the_synthetic_caseload_ends_a_stay_of_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Of its own alone, and where the message itself is about nobody real."""
    made_up = {"meta": {"tag": [HTEST]}}
    await stored(app, child("t", identifier=numbered(NUMBER)) | made_up)
    stays = [spell(value=value).encounter(id=value, subject=ref("Patient/t")) for value in "ab"]
    mine, others = stays[0] | {"serviceProvider": ods("ZZK03")}, stays[1]
    await stored(app, mine | made_up, others | made_up | {"serviceProvider": ods("ZZK99")})
    by_table(WARD)
    assert await stay_told(client, spell(value="a").discharge(END)) == "Encounter/a"
    assert await stay_told(client, spell(value="b").discharge(END)) != "Encounter/b"
    ended = {one["id"]: one for one in await all_of(app, "Encounter")}["a"]
    assert ended["status"] == "finished"
    assert HTEST in ended["meta"]["tag"]
    real = await stay_told(client, spell("9434765919", value="a").discharge(END))
    assert real != "Encounter/a"


async def test_class_15_what_somebody_may_be_called_finds_no_test_data(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """A load test may have given it that identifier before the child was known."""
    own = [{"system": "https://northmoor.example/fhir/Id/patient", "value": "7"}]
    await stored(app, child("t", identifier=own, meta={"tag": [HTEST]}))
    by_table(WARD)
    message = spell().admit()
    message["entry"][2]["resource"]["identifier"] = own
    await stay_told(client, message)
    (stay,) = await all_of(app, "Encounter")
    assert stay["subject"] != ref("Patient/t")


@pytest.mark.parametrize("there", [True, False])
async def test_class_1_a_patient_by_id_is_refused_alike_whether_there_is_one(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, there: bool
) -> None:
    if there:
        await stored(app, child("1"))
    by_table(WARD)
    message = spell().admit(subject=ref("Patient/1"))
    del message["entry"][2]
    place = "Bundle.entry[1].resource.subject"
    assert_outcome(await told(client, message), 400, "required", "is not known here", place)


@pytest.mark.parametrize("there", [True, False])
async def test_class_1_what_a_message_refers_to_is_in_it_whether_the_server_knows_it(
    app: Application, client: httpx.AsyncClient, by_table: ByTable, there: bool
) -> None:
    if there:
        await stored(app, child("2"), {**observed("x"), "id": "o", "subject": ref("Patient/2")})
    by_table(WARD)
    message = with_entry(spell().admit(), observed("y", hasMember=[ref("Observation/o")]))
    place = "Bundle.entry[3].resource.hasMember[0]"
    assert_outcome(await told(client, message), 422, "business-rule", "not in the message", place)


async def test_two_entries_with_one_identifier_are_refused(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Their next message would find two, and nobody could say which."""
    by_table(WARD)
    message = with_entry(with_entry(spell().admit(), observed("a")), observed("b"))
    place = "Bundle.entry[4].resource.identifier"
    assert_outcome(await told(client, message), 422, "business-rule", "already", place)


async def test_class_13_a_message_says_of_nobody_where_they_work(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(WARD)
    post: Resource = {name: value for name, value in role("x", "").items() if name != "id"}
    post |= {"practitioner": ref("Practitioner/victim"), "organization": ods("Y11")}
    body = {"resourceType": "Organization", "identifier": [ods("Y11")["identifier"]]}
    await stay_told(client, with_entry(with_entry(spell().admit(), post), body))
    (made,) = await all_of(app, "PractitionerRole")
    (org,) = await all_of(app, "Organization")
    assert made["active"] is False
    assert org["active"] is False


async def test_class_13_a_sender_hides_behind_no_organisation_that_is_known_otherwise(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """An entry says the sender's code, and is known here, by another identifier, as another's."""
    trust = organisation("y", "Y11")
    own = {"system": "https://y.example/Id/organisation", "value": "y"}
    trust["identifier"].append(own)
    await stored(app, trust)
    by_table(WARD)
    url = "urn:uuid:" + "2" * 8 + "-0000-4000-8000-000000000000"
    entry = {"resourceType": "Organization", "identifier": [own, ods("ZZK03")["identifier"]]}
    message = with_entry(spell().admit(serviceProvider=ref(url)), entry, url)
    assert_outcome(await told(client, message), 403, "forbidden", "its own organisation")
    message = changed(with_entry(spell().admit(), entry, url), 0, sender=ref(url))
    assert_outcome(await told(client, message), 403, "forbidden", "sender of a message")


async def test_a_message_under_a_known_identifier_with_other_content_is_its_senders_conflict(
    client: httpx.AsyncClient, by_table: ByTable
) -> None:
    by_table(WARD)
    message = spell().admit()
    await stay_told(client, message)
    other = {**renamed(spell(value="s2").admit()), "identifier": message["identifier"]}
    assert_outcome(await told(client, other), 409, "conflict", "Another message was received")
    by_table(OTHER)
    await stay_told(client, of_other(other))


async def test_class_15_a_load_test_takes_no_place_of_what_a_message_makes(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """It chooses ids, and those of an answer and of who is stored apart can be worked out."""
    message = spell(born="2010-02-03").admit()
    endpoint = message["entry"][0]["resource"]["source"]["endpoint"]
    name = (endpoint, message["identifier"]["system"], message["identifier"]["value"])
    marked = {"meta": {"tag": [HTEST]}}
    answer = stable_id("message", *name, "ods ZZK03")
    apart = stable_id("unconfirmed", "ZZK03", "2010-02-03", f"{canonicals.NHS_NUMBER}|{NUMBER}")
    await stored(
        app,
        child("1", "1999-01-01", identifier=numbered(NUMBER)),
        {"resourceType": "OperationOutcome", "id": answer, "issue": [], **marked},
        child(apart, "2010-02-03", **marked),
    )
    by_table(WARD)
    await stay_told(client, message)
    (kept,) = [one for one in await all_of(app, "Patient") if one["id"] == apart]
    assert "meta" not in kept or "tag" not in kept["meta"]
    assert kept["identifier"]
    assert await stay_told(client, message)


async def test_the_answer_says_nothing_of_the_unconfirmed(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """Byte for byte as for a child whom nobody knows, but for the name of the stay."""
    by_table(WARD)
    unknown = await told(client, spell("9990000026", "2010-02-03").admit())
    await stored(app, child("1", "1999-01-01", identifier=numbered(NUMBER)))
    doubted = await told(client, spell(born="2010-02-03", value="s2").admit())

    def bare(answer: httpx.Response) -> Any:
        shown = answer.json()
        shown["issue"][0]["diagnostics"] = shown["issue"][0]["diagnostics"].rpartition("/")[0]
        return json.encode({name: shown[name] for name in shown if name not in ("id", "meta")})

    assert bare(unknown) == bare(doubted)


async def test_of_two_records_with_a_number_the_one_in_use_is_meant(
    app: Application, client: httpx.AsyncClient, by_table: ByTable
) -> None:
    """As they are joined: docs/access.md."""
    twins = [child(one, FIFTEEN, identifier=numbered(NUMBER)) for one in "12"]
    await stored(app, twins[0], {**twins[1], "active": False})
    by_table(WARD)
    await stay_told(client, spell(born=FIFTEEN).admit())
    [stay] = await all_of(app, "Encounter")
    assert stay["subject"] == ref("Patient/1")

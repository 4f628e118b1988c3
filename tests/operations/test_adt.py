"""$process-adt: HL7 v2 has the effects of the message that it says, and is acknowledged."""

import base64
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
import pytest
from hl7apy.parser import parse_message
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from fhir_server.app import create_app
from fhir_server.events.topics import topics_of
from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from fhir_server.settings import Settings
from operations import _adt, _er7
from tests.operations.chart import Chart, code_of, everything
from tests.support import body

ER7: Final = "x-application/hl7-v2+er7"
NOW: Final = datetime.now(LOCAL).replace(second=0, microsecond=0)
ADMITTED: Final = NOW - timedelta(days=20)
HOME: Final = NOW - timedelta(days=2)


def stamp(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S")


def adt(event: str, number: str, at: datetime, **fields: str) -> str:
    """A message with these fields, such as `pv1_45="…"`, beside what every one has."""
    rows: dict[str, list[str]] = {
        "EVN": ["EVN", event, stamp(at), "", "", "", stamp(at)],
        "PID": [
            "PID",
            "1",
            "",
            f"{number}^^^NHS^NH~77^^^ZZK03^MR",
            "",
            "Alder^Sam",
            "",
            "20100514",
        ],
        "PV1": ["PV1", "1", "I", "SWALLOW^R1^B2", "25", *[""] * 41],
    }
    rows["PV1"][19], rows["PV1"][44] = "SPELL-1^^^ZZK03^VN", stamp(ADMITTED)
    header = {"control": f"{event}-{stamp(at)}", "version": "2.4", "charset": "UNICODE UTF-8"}
    for name, value in fields.items():
        segment, _, index = name.partition("_")
        if index.isdigit():
            row = rows[segment.upper()]
            row.extend([""] * (int(index) + 1 - len(row)))
            row[int(index)] = value
        else:
            header[name] = value
    msh = (
        f"MSH|^~\\&|PAS|ZZK03|KW|X99|{stamp(at)}||ADT^{event}|{header['control']}|P|"
        f"{header['version']}||||||{header['charset']}"
    )
    return "\r".join([msh, *("|".join(row) for row in rows.values()), ""])


async def send(chart: Chart, message: str | bytes) -> Any:
    """The acknowledgement, taken apart by hl7apy."""
    content = message.encode() if isinstance(message, str) else message
    answer = await chart.client.post("$process-adt", content=content, headers={"Content-Type": ER7})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith(ER7)
    return parse_message(answer.text, find_groups=False)


async def accept(chart: Chart, message: str) -> None:
    answer = await send(chart, message)
    assert answer.msa.msa_1.to_er7() == "AA", answer.to_er7()


@pytest.mark.parametrize("version", _er7.VERSIONS)
async def test_an_admission_is_acknowledged_and_has_its_effects(chart: Chart, version: str) -> None:
    answer = await send(chart, adt("A01", chart.nhs_number, ADMITTED, version=version))
    assert answer.msa.msa_1.to_er7() == "AA"
    assert answer.msa.msa_2.to_er7() == f"A01-{stamp(ADMITTED)}"
    assert answer.version == version
    stay = await chart.stay()
    assert stay["subject"] == {"reference": chart.patient}
    assert datetime.fromisoformat(stay["period"]["start"]) == ADMITTED
    assert stay["serviceProvider"]["identifier"]["value"] == "ZZK03"
    assert (await chart.colour(), await chart.state()) == ("blue", "in-hospital")
    assert "T-CETR-POSTADM" in await chart.dues()


async def test_an_admission_of_any_class_is_one_for_notices_too(chart: Chart) -> None:
    """PV1-2 is E where somebody was admitted from A&E; the rating is blue, so all are told."""
    told = []
    for event, at in (("A08", ADMITTED), ("A01", ADMITTED + timedelta(hours=1)), ("A03", HOME)):
        end = {"pv1_45": stamp(HOME)} if event == "A03" else {}
        await accept(chart, adt(event, chart.nhs_number, at, pv1_2="E", **end))
        told.append(await chart.stay())
    assert [one["class"]["code"] for one in told] == ["EMER"] * 3
    befores = (None, *told[:-1])
    topics = [topics_of(now, before) for now, before in zip(told, befores, strict=True)]
    assert topics == [frozenset(), {"admitted"}, {"discharged"}]
    assert await chart.colour() == "red"


async def test_an_event_that_contradicts_itself_is_taken_by_msh_9_and_told(chart: Chart) -> None:
    answer = await send(chart, adt("A01", chart.nhs_number, ADMITTED, evn_1="A03"))
    said = "Processed as A01 of MSH-9; EVN-1 says 'A03'"
    assert (answer.msa.msa_1.to_er7(), answer.msa.msa_3.to_er7()) == ("AA", said)
    assert await chart.colour() == "blue"
    agreed = await send(chart, adt("A02", chart.nhs_number, ADMITTED))
    untold = await send(chart, adt("A08", chart.nhs_number, ADMITTED, evn_1=""))
    assert {one.msa.msa_3.to_er7() for one in (agreed, untold)} == {"Processed"}


@pytest.mark.parametrize(
    ("event", "status", "colour"),
    [
        ("A02", "in-progress", "blue"),
        ("A05", "in-progress", "blue"),
        ("A08", "in-progress", "blue"),
        ("A11", "cancelled", "amber"),
        ("A12", "in-progress", "blue"),
        ("A13", "in-progress", "blue"),
        ("A21", "onleave", "blue"),
        ("A22", "in-progress", "blue"),
        ("A03", "finished", "red"),
    ],
)
async def test_each_event_after_an_admission(
    chart: Chart, event: str, status: str, colour: str
) -> None:
    await accept(chart, adt("A01", chart.nhs_number, ADMITTED))
    ends = {"pv1_45": stamp(HOME), "pv1_36": "1", "pv1_37": "19"} if event == "A03" else {}
    await accept(chart, adt(event, chart.nhs_number, HOME, **ends))
    assert ((await chart.stay())["status"], await chart.colour()) == (status, colour)


async def test_a_cancelled_discharge_goes_on_in_hospital(chart: Chart) -> None:
    await accept(chart, adt("A01", chart.nhs_number, ADMITTED))
    await accept(chart, adt("A03", chart.nhs_number, HOME, pv1_37="19"))
    assert await chart.colour() == "red"
    await accept(chart, adt("A13", chart.nhs_number, HOME + timedelta(hours=1)))
    assert ((await chart.stay())["status"], await chart.colour()) == ("in-progress", "blue")
    assert await chart.state() == "in-hospital"
    assert "T-FU-72" not in await chart.dues()


async def test_a_clock_that_is_days_ahead_hides_no_later_discharge(chart: Chart) -> None:
    soon = datetime.now(LOCAL) + timedelta(minutes=30)
    for event, at in (("A01", ADMITTED), ("A03", HOME), ("A13", NOW + timedelta(days=3))):
        await accept(chart, adt(event, chart.nhs_number, at))
    assert (await chart.stay())["status"] == "in-progress"
    await accept(chart, adt("A03", chart.nhs_number, soon, pv1_37="19"))
    assert ((await chart.stay())["status"], await chart.colour()) == ("finished", "red")


@pytest.mark.parametrize("to", ["49", "50", "53", "84", "87"])
async def test_a_discharge_to_another_hospital_stays_blue(chart: Chart, to: str) -> None:
    await accept(chart, adt("A01", chart.nhs_number, ADMITTED))
    await accept(chart, adt("A03", chart.nhs_number, HOME, pv1_37=to))
    assert ((await chart.stay())["status"], await chart.colour()) == ("finished", "blue")


async def test_a_death_closes_the_involvement_and_reminds_nobody(chart: Chart) -> None:
    await accept(chart, adt("A01", chart.nhs_number, ADMITTED))
    await accept(chart, adt("A03", chart.nhs_number, HOME, pv1_36="4", pv1_37="79"))
    (episode,) = await chart.all("EpisodeOfCare")
    states = [one.get("valueCode") for one in episode["extension"]]
    reasons = [
        code_of(one["valueCodeableConcept"])
        for one in episode["extension"]
        if one["url"] == canonicals.CLOSE_REASON_EXTENSION
    ]
    assert (episode["status"], reasons) == ("finished", ["deceased"])
    assert "closed" in states
    assert await chart.rating() is None
    assert set(await chart.dues()) == {"bereavement", "root-cause-analysis"}


def with_status(message: str, *segments: str) -> str:
    return message + "".join(f"{segment}\r" for segment in segments)


@pytest.fixture
async def told_in_zmh(chart: Chart, settings: Settings) -> AsyncIterator[Chart]:
    """The same record at a server that knows where its senders tell the legal status."""
    app = create_app(settings.model_copy(update={"v2_legal_status": "ZMH-2.1"}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
            yield Chart(client, chart.store)


async def aftercare(chart: Chart) -> list[bool]:
    plan = await chart.discharge_plan()
    assert plan is not None
    told = plan.get("extension", ())
    return [one["valueBoolean"] for one in told if one["url"] == canonicals.SECTION_117_EXTENSION]


async def test_section_117_follows_the_legal_status_of_the_field_that_is_set(
    told_in_zmh: Chart,
) -> None:
    chart = told_in_zmh
    await accept(chart, with_status(adt("A01", chart.nhs_number, ADMITTED), "ZMH|1|02^Section 2"))
    assert await aftercare(chart) == [False]
    later = adt("A08", chart.nhs_number, HOME)
    await accept(chart, with_status(later, "ZMH|1|02^Section 2", "ZMH|2|20~03^Section 3"))
    assert await aftercare(chart) == [True]
    told = [one for one in (await chart.stay())["extension"] if one["url"].endswith("LegalStatus")]
    codes = [code_of(one["extension"][1]["valueCodeableConcept"]) for one in told]
    assert codes == ["02", "20", "03"]
    assert {code_of(one["extension"][0]["valueCodeableConcept"]) for one in told} == {"admission"}


async def test_a_local_legal_status_is_kept_and_told_to_be_open(told_in_zmh: Chart) -> None:
    chart = told_in_zmh
    message = with_status(adt("A01", chart.nhs_number, ADMITTED), "ZMH|1|S 3")
    answer = await send(chart, message)
    assert answer.msa.msa_1.to_er7() == "AA"
    assert "legal status 'S 3' in ZMH-2.1 is not understood" in answer.msa.msa_3.to_er7()
    assert await aftercare(chart) == []
    (status,) = (await chart.stay())["extension"]
    assert status["extension"][1]["valueCodeableConcept"] == {"coding": [{"code": "S 3"}]}


async def test_without_a_field_that_is_set_no_legal_status_is_read(chart: Chart) -> None:
    await accept(chart, with_status(adt("A01", chart.nhs_number, ADMITTED), "ZMH|1|03"))
    assert await aftercare(chart) == []
    assert "extension" not in await chart.stay()


def test_the_field_may_be_one_that_a_version_does_not_have() -> None:
    message = adt("A01", "9990000158", ADMITTED)
    header, parsed = _er7.read(message.encode())
    bundle = _adt.event_message(parsed(), header, None, "PV1-99")
    assert "extension" not in bundle["entry"][1]["resource"]


async def test_the_same_number_again_is_answered_again_and_writes_nothing(chart: Chart) -> None:
    message = adt("A01", chart.nhs_number, ADMITTED)
    await accept(chart, message)
    before = await everything(chart.store)
    await accept(chart, message)
    assert await everything(chart.store) == before


async def test_another_message_with_the_same_number_is_refused(chart: Chart) -> None:
    await accept(chart, adt("A01", chart.nhs_number, ADMITTED, control="7"))
    answer = await send(chart, adt("A03", chart.nhs_number, HOME, control="7", version="2.5"))
    assert answer.msa.msa_1.to_er7() == "AE"
    assert answer.err.err_2.to_er7() == "MSH^1^10"


@pytest.mark.parametrize(
    ("changes", "code", "place"),
    [
        ({"pid_3": ""}, "AE", "PID^1^3"),
        ({"pid_7": "20111111"}, "AE", "PID^1^7"),
        ({"pid_7": "soon"}, "AE", "PID^1^7"),
        ({"pv1_19": ""}, "AE", "PV1^1^19"),
        ({"pv1_44": "20261399"}, "AE", "PV1^1^44"),
        ({"pv1_44": "21000101"}, "AE", "PV1^1^44"),
        ({"event": "A03", "pv1_45": "21000101"}, "AE", "PV1^1^45"),
        ({"event": "A03", "pv1_45": "20000101"}, "AE", "PV1^1^45"),
        # What the event message breaks is found by its check alone: a code has one space at most.
        ({"event": "A03", "pv1_37": "19  x"}, "AE", "PV1^1^37"),
        ({"charset": "EBCDIC"}, "AE", "MSH^1^18"),
        ({"version": "3.0"}, "AR", ""),
        ({"event": "A40"}, "AR", "MSH^1^9"),
    ],
)
async def test_what_is_wrong_is_told_with_its_place_and_nothing_is_stored(
    chart: Chart, changes: dict[str, str], code: str, place: str
) -> None:
    before = await everything(chart.store)
    event = changes.pop("event", "A01") if "event" in changes else "A01"
    fields = {"version": "2.5", **changes}
    answer = await send(chart, adt(event, chart.nhs_number, ADMITTED, **fields))
    assert answer.msa.msa_1.to_er7() == code
    if place:
        assert answer.err.err_2.to_er7() == place
    assert "Traceback" not in answer.to_er7()
    assert await everything(chart.store) == before


async def test_before_2_5_the_place_stands_in_the_first_field(chart: Chart) -> None:
    answer = await send(chart, adt("A01", chart.nhs_number, ADMITTED, pid_3="", version="2.3"))
    assert answer.err.err_1.to_er7().startswith("PID^1^3^101")


async def test_reads_latin_letters_by_msh_18(chart: Chart) -> None:
    message = adt("A01", chart.nhs_number, ADMITTED, charset="8859/1", pv1_3="Möwe \\T\\ Söhne")
    answer = await send(chart, message.encode("iso8859-1"))
    assert answer.msa.msa_1.to_er7() == "AA"
    assert (await chart.stay())["location"][0]["location"]["display"] == "Möwe & Söhne"
    wrong = await send(chart, adt("A08", chart.nhs_number, HOME).encode() + b"NTE|\xff\r")
    assert wrong.msa.msa_1.to_er7() == "AE"


async def test_takes_a_binary_and_parameters_and_the_sender_s_code(chart: Chart) -> None:
    message = adt("A01", chart.nhs_number, ADMITTED)
    data = base64.b64encode(message.encode()).decode()
    binary = {"resourceType": "Binary", "contentType": ER7, "data": data}
    answer = await chart.client.post("$process-adt?sender=ZZK09", **body(binary))
    assert b"MSA|AA|" in base64.b64decode(answer.json()["data"])
    assert (await chart.stay())["serviceProvider"]["identifier"]["value"] == "ZZK09"
    left = adt("A03", chart.nhs_number, HOME, pv1_37="19")
    given = {"message": left, "sender": "ZZK09"}
    parameters = [{"name": name, "valueString": value} for name, value in given.items()]
    asked = {"resourceType": "Parameters", "parameter": parameters}
    answer = await chart.client.post("$process-adt", **body(asked))
    assert b"MSA|AA|" in base64.b64decode(answer.json()["data"])
    assert (await chart.stay())["status"] == "finished"


@pytest.mark.parametrize("sent", [b"hello", b"MSH\r|^~\\&|PAS|ZZK03\r", b"MSH|^~\\&\nPID|1\r"])
async def test_what_is_no_message_is_refused(client: httpx.AsyncClient, sent: bytes) -> None:
    answer = await client.post("$process-adt", content=sent, headers={"Content-Type": ER7})
    assert answer.status_code == 400
    assert "MSH" in answer.text


def test_summer_time_is_london_s() -> None:
    assert _er7.time_of("202607011015", "") == "2026-07-01T10:15:00+01:00"
    assert _er7.time_of("202601011015", "") == "2026-01-01T10:15:00+00:00"
    assert _er7.time_of("20260701101500.12-0500", "") == "2026-07-01T10:15:00-05:00"
    assert _er7.time_of("20260701", "") == "2026-07-01"


@pytest.mark.parametrize("between", ["", "\x1c\r\x0b", "\n"])
@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_two_messages_in_one_are_none(between: str, lines: int) -> None:
    """Nor is one that broke off before the next: its event would be told of the other's person."""
    broken = adt("A01", "9990000158", ADMITTED).split("\r")[:lines]
    following = adt("A03", "9990000166", HOME)
    _, parsed = _er7.read("\r".join([*broken, between + following]).encode())
    with pytest.raises(_er7.Refused, match="more than one segment MSH"):
        parsed()


def test_another_person_in_the_same_message_is_refused() -> None:
    _, parsed = _er7.read(f"{adt('A01', '9990000158', ADMITTED)}PID|2||9990000166\r".encode())
    with pytest.raises(_er7.Refused, match="more than one segment PID"):
        parsed()


def test_an_acknowledgement_says_the_number_as_it_was_sent() -> None:
    latin = adt("A01", "9990000158", ADMITTED, control="É1", charset="8859/1").encode("latin-1")
    assert _er7.read(latin)[0].control == "É1"
    other = adt("A01", "9990000158", ADMITTED).replace("^", "@")
    assert b"||ACK^A01^ACK|" in _er7.acknowledgement(_er7.read(other.encode())[0], "AA", NOW, "")


_SAMPLE: Final = adt("A01", "9990000158", ADMITTED).encode()


@trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=300).map(lambda more: b"MSH|^~\\&|" + more),
        st.builds(
            lambda at, cut, more: _SAMPLE[:at] + more + _SAMPLE[at + cut :],
            st.integers(0, len(_SAMPLE)),
            st.integers(0, 40),
            st.binary(max_size=20),
        ),
    )
)
def test_any_bytes_are_taken_apart_or_refused(raw: bytes) -> None:
    try:
        header, parsed = _er7.read(raw)
        made = _adt.event_message(parsed(), header, None)
    except _er7.Refused as refused:
        assert refused.text  # noqa: PT017 - either outcome is right
        return
    assert made["entry"][1]["resource"]["resourceType"] == "Encounter"

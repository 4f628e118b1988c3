"""What stays bring is derived anew with each word of them: what people decided stands."""

from datetime import datetime, timedelta
from typing import Final

import pytest

from fhir_server.fhir import canonicals
from fhir_server.fhir.dates import LOCAL
from tests.operations.chart import Chart, code_of, concept, ended, extension_of
from tests.operations.messages import JSON, Spell
from tests.operations.test_set_rating import flag_of, remove
from tests.support import write_over

NOW: Final = datetime.now(LOCAL).replace(microsecond=0)
DAY: Final = timedelta(days=1)


async def at_home(chart: Chart, left: datetime) -> Spell:
    stay = Spell(chart.nhs_number, left - 30 * DAY)
    await chart.tell(stay.admit())
    await chart.tell(stay.discharge(left))
    return stay


async def end_by_hand(chart: Chart, at: datetime) -> JSON:
    """As somebody does who thinks that it is time."""
    flag = await chart.rating()
    assert flag is not None
    over = ended(at.isoformat())
    over["period"] = {**flag["period"], "end": at.isoformat()}
    over["extension"] = [*flag.get("extension", []), *over["extension"]]
    answer = await write_over(chart.client, {**flag, **over})
    assert answer.status_code == 200, answer.text
    return (await by_id(chart))[flag["id"]]


async def by_id(chart: Chart) -> dict[str, JSON]:
    return {flag["id"]: flag for flag in await chart.all("Flag")}


async def of(chart: Chart, colour: str) -> list[JSON]:
    found = [flag for flag in await chart.all("Flag") if code_of(flag["code"]) == colour]
    return sorted(found, key=lambda flag: str(flag["period"]["start"]))


def why(flag: JSON) -> str:
    found = extension_of(flag, canonicals.RATING_END_REASON_EXTENSION)
    return code_of(found["valueCodeableConcept"])


async def test_a_red_that_somebody_has_ended_stays_so_whatever_is_told_of_stays(
    chart: Chart,
) -> None:
    stay = await at_home(chart, NOW - 30 * DAY)
    red = await end_by_hand(chart, NOW - 5 * DAY)
    await chart.tell(stay.discharge(NOW - 30 * DAY))
    assert (await by_id(chart))[red["id"]] == red
    again = Spell(chart.nhs_number, NOW - 2 * DAY)
    await chart.tell(again.admit())
    assert await chart.colour() == "blue"
    await chart.tell(again.event("A11", "cancelled"))
    assert (await by_id(chart))[red["id"]] == red
    assert await chart.rating() is None


@pytest.mark.parametrize("fraction", [0, 500])
async def test_a_red_that_something_followed_moves_with_its_discharge(
    chart: Chart, fraction: int
) -> None:
    """Who gave what followed may tell it to the millisecond; the red ends to the second."""
    stay = await at_home(chart, NOW - 30 * DAY)
    given = NOW - 5 * DAY + timedelta(milliseconds=fraction)
    await chart.rate("amber", given.isoformat(timespec="milliseconds"))
    home = NOW - 31 * DAY
    await chart.tell(stay.discharge(home))
    (red,) = await of(chart, "red")
    assert red["period"] == {
        "start": home.isoformat(),
        "end": (NOW - 5 * DAY).isoformat(),
    }


async def test_a_rating_of_the_day_of_an_admission_was_before_it(chart: Chart) -> None:
    admitted = (NOW - 20 * DAY).replace(hour=12)
    given = await chart.rate("red", admitted.date().isoformat())
    stay = Spell(chart.nhs_number, admitted)
    await chart.tell(stay.admit())
    (red,) = await of(chart, "red")
    assert red["period"]["end"] == admitted.isoformat()
    await chart.tell(stay.event("A11", "cancelled"))
    found = await chart.rating()
    assert found is not None
    assert found["id"] == given["id"]


async def test_a_blue_that_ended_with_the_consent_before_the_discharge_did(chart: Chart) -> None:
    stay = Spell(chart.nhs_number, NOW - 30 * DAY)
    await chart.tell(stay.admit())
    await chart.consent("register", status="inactive")
    (blue,) = await of(chart, "blue")
    home = datetime.now(LOCAL).replace(microsecond=0) + timedelta(minutes=20)
    await chart.tell(stay.discharge(home))
    await chart.consent("register")
    assert await of(chart, "blue") == [blue]
    assert why(blue) == "consent-withdrawn"
    assert await chart.colour() == "red"


async def test_the_blue_of_a_stay_that_led_to_another_hospital_ends_as_that_of_the_next_begins(
    chart: Chart,
) -> None:
    first = Spell(chart.nhs_number, NOW - 60 * DAY)
    second = Spell(chart.nhs_number, NOW - 29 * DAY)
    await chart.tell(first.admit())
    await chart.tell(first.discharge(NOW - 30 * DAY, to="53"))
    assert await chart.colour() == "blue"
    await chart.tell(second.admit())
    home = NOW - 10 * DAY
    await chart.tell(second.discharge(home))
    ends = [blue["period"]["end"] for blue in await of(chart, "blue")]
    assert ends == [second.start.isoformat(), home.isoformat()]
    assert await chart.colour() == "red"


@pytest.mark.parametrize("reason", ["deceased", "added-in-error"])
async def test_a_red_that_somebody_has_removed_is_not_given_back_by_later_word(
    chart: Chart, reason: str
) -> None:
    """With a reason with which the service ends ratings itself, and without a text."""
    stay = await at_home(chart, NOW - 30 * DAY)
    red = flag_of(await remove(chart, reason))
    await chart.tell(stay.discharge(NOW - 30 * DAY))
    assert (await by_id(chart))[red["id"]] == red
    assert await chart.rating() is None


async def test_a_death_told_in_error_long_ago_is_not_when_somebody_died(chart: Chart) -> None:
    """They were rated since: a death without a time is of now."""
    why_over = {
        "url": canonicals.RATING_END_REASON_EXTENSION,
        "valueCodeableConcept": concept(canonicals.RATING_END_REASON, "deceased"),
    }
    over = {"status": "inactive", "extension": [why_over]}
    await chart.rate(
        "green", "2025-12-01", **over, period={"start": "2025-12-01", "end": "2026-01-02"}
    )
    patient = (await chart.client.get(chart.patient)).json()
    answer = await write_over(chart.client, {**patient, "deceasedBoolean": True})
    assert answer.status_code == 200, answer.text
    (amber,) = await of(chart, "amber")
    assert why(amber) == "deceased"
    assert datetime.fromisoformat(amber["period"]["end"]) >= NOW

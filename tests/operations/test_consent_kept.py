"""From the 16th birthday on no parent consents; what a later consent settles is talked about."""

from datetime import timedelta

import pytest

from tests.operations.chart import CONSENT_ENDED, Chart
from tests.operations.messages import JSON
from tests.operations.timing import TODAY, begin, born, by_parent, days_ago
from tests.support import assert_outcome, body, write_over


async def _grown(chart: Chart, birth_date: str) -> JSON:
    """Somebody whose parent consented 90 days ago, and whose birth was then corrected."""
    await begin(chart)
    await by_parent(chart)
    patient = (await chart.client.get(chart.patient)).json()
    await chart.write({**patient, "birthDate": birth_date})
    (consent,) = await chart.all("Consent")
    return consent


def _anew(consent: JSON, day: str) -> JSON:
    told = {name: value for name, value in consent.items() if name not in ("id", "meta")}
    return {**told, "status": "active", "dateTime": day}


@pytest.mark.parametrize("birth_date", [born(16), born(18)[:7], born(18)[:4]])
async def test_from_the_16th_birthday_on_no_parent_consents(
    unknown: Chart, birth_date: str
) -> None:
    """However exactly the birth is known, today or from some day on; by create and update."""
    consent = await _grown(unknown, birth_date)
    for day in (TODAY, TODAY + timedelta(days=3)):
        told = _anew(consent, day.isoformat())
        answers = [
            await unknown.client.post("Consent", **body(told)),
            await write_over(unknown.client, {**consent, **told}),
        ]
        for answer in answers:
            assert_outcome(answer, 422, "business-rule", "had turned 16", "Consent.policyRule")


async def test_what_a_parent_decided_before_is_recorded_as_past(unknown: Chart) -> None:
    consent = await _grown(unknown, born(16, 1))
    signed = await unknown.client.post("Consent", **body(_anew(consent, days_ago(90))))
    assert signed.status_code == 201, signed.text
    assert {one["status"] for one in await unknown.all("Consent")} == {"inactive"}
    assert (await write_over(unknown.client, {**consent, "language": "en-GB"})).is_success
    refused = {**_anew(consent, TODAY.isoformat()), "status": "rejected"}
    refused["extension"] = [CONSENT_ENDED]
    assert (await unknown.client.post("Consent", **body(refused))).status_code == 201


async def test_below_16_a_parent_consents(unknown: Chart) -> None:
    await begin(unknown, birthDate=born(16, -1))
    await by_parent(unknown, dateTime=TODAY.isoformat())
    (consent,) = await unknown.all("Consent")
    assert consent["status"] == "active"

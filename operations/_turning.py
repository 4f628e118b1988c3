"""What birthdays end: a parent's consent at 16, the rating with the service."""

from fhir_server.fhir import canonicals
from fhir_server.fhir.json import Resource
from fhir_server.operation.records import Records, reference_to
from operations._ageing import PARENTS_END_MONTHS, outgrown
from operations._calendar import midnight
from operations._consenting import is_parents
from operations._person import REACHED_16, Person, status_of, with_extension
from operations._rating import end_ratings
from operations._record import Record


async def end_parents_consents(records: Records, record: Record) -> list[str]:
    """From the 16th birthday on the young person decides; what access denies is written too."""
    day = record.birthday(PARENTS_END_MONTHS)
    if day is None or day > record.today:
        return []
    ended = [one for one in record.consents if is_parents(one) and status_of(one) == "active"]
    for consent in ended:
        await records.amend({**with_extension(consent, _reason()), "status": "inactive"})
    return [
        f"A parent's consent has ended with the 16th birthday: {reference_to(one)}" for one in ended
    ]


def _reason() -> Resource:
    coding = {"system": canonicals.CONSENT_STATUS_REASON, "code": REACHED_16}
    return {
        "url": canonicals.CONSENT_STATUS_REASON_EXTENSION,
        "valueCodeableConcept": {"coding": [coding]},
    }


async def end_ratings_of_the_outgrown(records: Records, record: Record) -> list[str]:
    day = outgrown(record)
    if day is None or record.rating is None:
        return []
    person = Person(records, record.patient, record.now)
    await end_ratings(records, person, midnight(day), "aged-out")
    return [f"The rating has ended with the {record.numbers.eligible_until_age}th birthday"]

"""What is taken over without a check of the whole is what the check itself finds sound."""

from typing import Any

import pytest

from fhir_server.fhir import canonicals
from fhir_server.validation.checker import standard_checker
from operations._sound import PROFESSIONALS, is_as_sent, is_identifier, is_name
from tests.operations.chart import concept
from tests.operations.messages import JSON

UNIT: JSON = {"system": canonicals.ODS_ORGANIZATION, "value": "ZZK03"}
CONTROL = "\x01"


def rating(author: JSON) -> JSON:
    """In which an author stands who is no more than a name, as the profile has it."""
    return {
        "resourceType": "Flag",
        "status": "active",
        "category": [concept(canonicals.FLAG_CATEGORY, canonicals.DSR_ADMISSION_RISK)],
        "code": concept(canonicals.DSR_RATING, "amber"),
        "subject": {"reference": "Patient/1"},
        "period": {"start": "2026-05-01"},
        "author": author,
    }


SOUND: list[JSON] = [
    {"reference": "Organization/1"},
    {"reference": "PractitionerRole/1/_history/2", "display": "Who keeps in touch"},
    {"identifier": UNIT},
    {"identifier": {"value": "ZZK03"}, "display": "A ward"},
]
DOUBTFUL: list[JSON] = [
    {},
    {"display": "A ward"},
    {"reference": "Patient/1"},
    {"reference": "#ward"},
    {"reference": "https://elsewhere.example/Organization/1"},
    {"reference": "Organization/1", "type": "Patient"},
    {"identifier": {"system": canonicals.ODS_ORGANIZATION}},
    {"identifier": {**UNIT, "use": "unheard-of"}},
    {"identifier": {**UNIT, "value": CONTROL}},
    {"identifier": {**UNIT, "system": "no uri"}},
    {"identifier": UNIT, "display": CONTROL},
    {"identifier": UNIT, "extension": [{"url": "https://elsewhere.example/e"}]},
]


@pytest.mark.parametrize("author", SOUND)
def test_a_plain_name_is_sound_as_the_check_says_too(author: JSON) -> None:
    assert is_name(author, PROFESSIONALS)
    assert not standard_checker().check(rating(author)).errors


@pytest.mark.parametrize("author", DOUBTFUL)
def test_what_is_more_or_less_than_a_name_is_left_to_the_check(author: JSON) -> None:
    assert not is_name(author, PROFESSIONALS)


@pytest.mark.parametrize("more", [{}, {"system": "no uri", "value": "1"}, {"value": 1}])
def test_an_identifier_is_a_value_and_maybe_a_system(more: dict[str, Any]) -> None:
    assert not is_identifier(more)


def test_what_was_checked_is_as_it_was_sent_but_for_its_names_here() -> None:
    sent: JSON = {"resourceType": "Encounter", "id": "e", "status": "planned"}
    sent |= {"subject": {"reference": "urn:uuid:1", "display": "A"}}
    here = {**sent, "id": "1", "subject": {"reference": "Patient/1", "display": "A"}}
    assert is_as_sent({**here, "episodeOfCare": [{"reference": "EpisodeOfCare/1"}]}, sent)
    for change in (
        {"status": "finished"},
        {"partOf": {"reference": "Encounter/2"}},
        {"subject": {"reference": "Patient/1", "display": "B"}},
    ):
        assert not is_as_sent({**here, **change}, sent)

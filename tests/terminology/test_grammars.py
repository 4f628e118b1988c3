"""Codes that are right by their form alone."""

import pytest

from fhir_server.terminology.grammars import is_well_formed

LANGUAGE = "urn:ietf:bcp:47"
MEDIA = "urn:ietf:bcp:13"


@pytest.mark.parametrize(
    "tag",
    # Examples of RFC 5646, appendix A.
    [
        *("de", "fr", "ja", "i-enochian", "zh-Hant", "sr-Cyrl", "zh-cmn-Hans-CN", "yue-HK"),
        *("sl-rozaj-biske", "de-CH-1901", "hy-Latn-IT-arevela", "es-419", "de-CH-x-phonebk"),
        *("az-Arab-x-AZE-derbend", "x-whatever", "qaa-Qaaa-QM-x-southern", "en-US-u-islamcal"),
        *("zh-CN-a-myext-x-private", "en-a-myext-b-another"),
    ],
)
def test_tags_of_languages(tag: str) -> None:
    assert is_well_formed(LANGUAGE, tag)


@pytest.mark.parametrize("tag", ["", "english!", "de-419-DE", "en_GB", "en-", "a-DE", "en GB"])
def test_what_is_no_tag(tag: str) -> None:
    assert is_well_formed(LANGUAGE, tag) is False


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [
        (MEDIA, "text/plain", True),
        (MEDIA, "application/fhir+json; fhirVersion=4.0", True),
        (MEDIA, 'text/plain; charset="utf-8"', True),
        (MEDIA, "text", False),
        (MEDIA, "text/plain;", False),
        (f"{MEDIA}|1", "image/png", True),
        ("http://unitsofmeasure.org", "mm[Hg]", True),
        ("http://unitsofmeasure.org", "mm Hg", False),
        ("http://unitsofmeasure.org", "µm", False),
        ("urn:iso:std:iso:4217", "GBP", True),
        ("urn:iso:std:iso:4217", "pound", False),
        ("http://loinc.org", "8480-6", None),
        (LANGUAGE, "en" + "-abcde" * 100, False),
    ],
)
def test_other_systems(system: str, code: str, expected: bool | None) -> None:
    assert is_well_formed(system, code) is expected

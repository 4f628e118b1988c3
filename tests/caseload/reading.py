"""A synthetic caseload, as tests ask it."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from functools import cache
from typing import Any

from fhir_server.caseload import generate
from fhir_server.fhir import canonicals

Json = dict[str, Any]

AS_OF = date(2025, 3, 3)


@cache
def bundles(seed: int = 7, as_of: date = AS_OF) -> tuple[Json, ...]:
    return tuple(generate(seed, as_of))


class Caseload:
    def __init__(self, seed: int, as_of: date) -> None:
        self.as_of = as_of.isoformat()
        self.bundles = bundles(seed, as_of)
        self.by_type: dict[str, list[Json]] = defaultdict(list)
        for resource in self:
            self.by_type[resource["resourceType"]].append(resource)

    def __iter__(self) -> Iterator[Json]:
        return (entry["resource"] for bundle in self.bundles for entry in bundle["entry"])

    def of(self, kind: str, patient: str, **elements: str) -> list[Json]:
        return [
            resource
            for resource in self.by_type[kind]
            if subject(resource) == patient
            and all(resource[name] == value for name, value in elements.items())
        ]

    def patients(self) -> Iterator[str]:
        return (f"Patient/{patient['id']}" for patient in self.by_type["Patient"])

    def episode(self, patient: str) -> Json:
        (episode,) = self.of("EpisodeOfCare", patient)
        return episode

    def ratings(self, patient: str) -> list[Json]:
        return [
            flag
            for flag in self.of("Flag", patient)
            if any(has_code(c, canonicals.FLAG_CATEGORY) for c in flag.get("category", []))
        ]

    def consents(self, patient: str, category: str, status: str) -> list[Json]:
        return [
            consent
            for consent in self.of("Consent", patient, status=status)
            if code_of(consent["category"][1]) == category
        ]

    def open_stays(self, patient: str) -> list[Json]:
        stays = self.of("Encounter", patient, status="in-progress")
        return [stay for stay in stays if stay["class"]["code"] == "IMP"]

    def age(self, patient: str) -> int:
        born = self.born(patient)
        return int(self.as_of[:4]) - int(born[:4]) - (self.as_of[5:] < born[5:])

    def born(self, patient: str) -> str:
        (found,) = [p for p in self.by_type["Patient"] if f"Patient/{p['id']}" == patient]
        birth_date: str = found["birthDate"]
        return birth_date


def subject(resource: Json) -> str | None:
    for name in ("subject", "patient", "for"):
        if name in resource:
            target: str = resource[name]["reference"]
            return target
    return None


def code_of(concept: Json) -> str:
    code: str = concept["coding"][0]["code"]
    return code


def has_code(concept: Json, system: str) -> bool:
    return any(coding["system"] == system for coding in concept.get("coding", []))


def extension(resource: Json, url: str) -> Any:
    """The value of an extension, or None."""
    for one in resource.get("extension", []):
        if one["url"] == url:
            return next(value for name, value in one.items() if name != "url")
    return None


def state(episode: Json) -> str:
    value: str = extension(episode, canonicals.PATHWAY_STATE_EXTENSION)
    return value


def parts(value: Any) -> Iterator[Json]:
    """Every JSON object inside a value, itself first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from parts(inner)

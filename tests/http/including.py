"""What includes mean, said once more in plain words: the oracle for their pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

Resource = dict[str, Any]
Name = tuple[str, str]
World = Mapping[Name, Resource]

PLAN: Final = "https://keyworking.example/PlanDefinition/"


def named(resource: Resource) -> Name:
    return resource["resourceType"], resource["id"]


def world(random: Random) -> Iterator[Resource]:
    """Resources that refer to each other in rings, to what is not there, and by canonicals.

    No Encounter is a stay in hospital, of which Tasks would come.
    """
    for number in range(3):
        parent = _to(random, "Organization", 4)
        yield _resource("Organization", number, name="A trust", partOf=parent)
        yield {
            **_resource("PlanDefinition", number, url=f"{PLAN}{number % 2}", status="active"),
            "version": f"{number}",
            "relatedArtifact": [{"type": "depends-on", "resource": _canonical(random)}],
        }
    for number in range(4):
        yield _resource("Patient", number, managingOrganization=_to(random, "Organization", 4))
    for number in range(8):
        owner = _to(random, "Organization", 4)
        within = _to(random, "Location", 9)
        yield _resource("Location", number, partOf=within, managingOrganization=owner)
        yield _resource(
            "Encounter",
            number,
            status="finished",
            **{"class": {"code": "AMB"}, "subject": _to(random, "Patient", 4)},
            location=[{"location": _to(random, "Location", 9)} for _ in range(2)],
        )
        yield _resource(
            "CarePlan",
            number,
            status="active",
            intent="plan",
            subject=_to(random, "Patient", 4),
            instantiatesCanonical=[_canonical(random)],
            encounter=_to(random, "Encounter", 8),
        )


def _resource(resource_type: str, number: int, **members: Any) -> Resource:
    return {"resourceType": resource_type, "id": f"n{number}", **members}


def _to(random: Random, resource_type: str, many: int) -> dict[str, str]:
    return {"reference": f"{resource_type}/n{random.randrange(many)}"}


def _canonical(random: Random) -> str:
    return f"{PLAN}{random.randrange(3)}" + random.choice(("", "", "|0", "|1", "|2"))


def _at(*path: str) -> Callable[[Resource], list[str]]:
    def read(resource: Resource) -> list[str]:
        found: list[Any] = [resource]
        for name in path:
            inner = [one[name] for one in found if name in one]
            found = [x for one in inner for x in (one if isinstance(one, list) else [one])]
        return found

    return read


REFERENCES: Final[Mapping[Name, Callable[[Resource], list[str]]]] = {
    ("Organization", "partof"): _at("partOf", "reference"),
    ("Patient", "organization"): _at("managingOrganization", "reference"),
    ("Location", "partof"): _at("partOf", "reference"),
    ("Location", "organization"): _at("managingOrganization", "reference"),
    ("Encounter", "subject"): _at("subject", "reference"),
    ("Encounter", "location"): _at("location", "location", "reference"),
    ("CarePlan", "subject"): _at("subject", "reference"),
    ("CarePlan", "encounter"): _at("encounter", "reference"),
    ("CarePlan", "instantiates-canonical"): _at("instantiatesCanonical"),
    ("PlanDefinition", "depends-on"): _at("relatedArtifact", "resource"),
}
"""Each reference of the world once, though other parameters find it too."""


def _means(reference: str, resource: Resource) -> bool:
    if reference == "/".join(named(resource)):
        return True
    url, _, version = reference.partition("|")
    return url == resource.get("url") and version in ("", resource.get("version"))


def _led(include: str, sources: Iterable[Resource], world: World, *, back: bool) -> set[Name]:
    wanted, code, target = (*include.split(":"), "*", "")[:3] if include != "*" else ("*", "*", "")
    found: set[Name] = set()
    for source in world.values() if back else sources:
        for other in sources if back else world.values():
            kind = source["resourceType"]
            if wanted in ("*", kind) and target in ("", "*", other["resourceType"]):
                for (type_name, name), read in REFERENCES.items():
                    refers = type_name == kind and code in ("*", name)
                    if refers and any(_means(one, other) for one in read(source)):
                        found.add(named(source if back else other))
    return found


def included(
    includes: Sequence[tuple[str, str]], matches: Sequence[Name], world: World
) -> set[Name]:
    """The names of what the includes add to the matches."""
    seen, frontier = set(matches), set(matches)
    for step in range(10):
        sources = [world[name] for name in frontier]
        found = {
            name
            for parameter, value in includes
            if step == 0 or parameter.endswith(":iterate")
            for name in _led(value, sources, world, back=parameter.startswith("_rev"))
        }
        frontier = found - seen
        seen |= frontier
    return seen - set(matches)

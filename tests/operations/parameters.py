"""Does what an operation answers satisfy its OperationDefinition?

A checker of its own, which shares nothing with the server's: names, cardinalities, types and
parts, by https://hl7.org/fhir/R4/operationdefinition.html and parameters.html.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fhir.resources.R4B.operationdefinition import OperationDefinition
from fhir.resources.R4B.parameters import Parameters

from tests.operations.messages import JSON
from tests.support import REPOSITORY

OPERATIONS: Final = REPOSITORY / "operations"


def definition(file: str | Path) -> JSON:
    """An OperationDefinition, as R4B's own model takes it."""
    found: JSON = json.loads((OPERATIONS / file).read_text(encoding="utf-8"))
    OperationDefinition.model_validate(found)
    return found


def problems(answer: JSON, defined: JSON) -> list[str]:
    """What in the Parameters is not as the definition says; [] when all is."""
    Parameters.model_validate(answer)
    outs = [parameter for parameter in defined["parameter"] if parameter["use"] == "out"]
    return [*_among(answer.get("parameter", []), outs, "")]


def _among(given: list[JSON], defined: list[JSON], place: str) -> Iterator[str]:
    counts = Counter(parameter["name"] for parameter in given)
    known = {parameter["name"]: parameter for parameter in defined}
    for name in counts.keys() - known.keys():
        yield f"{place}{name} is not defined"
    for name, parameter in known.items():
        most = float("inf") if parameter["max"] == "*" else int(parameter["max"])
        if not parameter["min"] <= counts[name] <= most:
            yield f"{place}{name} is there {counts[name]} times"
    for parameter in given:
        if parameter["name"] in known:
            yield from _one(parameter, known[parameter["name"]], place + parameter["name"])


def _one(given: JSON, defined: JSON, place: str) -> Iterator[str]:
    members = given.keys() - {"name"}
    if "part" in defined:
        if members != {"part"}:
            yield f"{place} has {members}, not parts"
        yield from _among(given.get("part", []), defined["part"], f"{place}.")
    elif defined["type"][0].isupper() and "resource" in given:
        if given["resource"]["resourceType"] != defined["type"]:
            yield f"{place} is a {given['resource']['resourceType']}"
    elif members != {"value" + defined["type"][0].upper() + defined["type"][1:]}:
        yield f"{place} is {members}, not {defined['type']}"

"""What R4 says of its own elements beyond cardinality and type.

The table comes from HL7's package `hl7.fhir.r4.core` 4.0.1 (see SOURCES.md). Nothing is read
before it is first asked for.

Source: https://hl7.org/fhir/R4/elementdefinition.html
"""

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from fhir_server.fhir.tables import mapped

DATA: Final = Path(__file__).parents[1] / "data"


class Constraint(msgspec.Struct, array_like=True, frozen=True):
    """An invariant; `severity` is error or warning, `expression` FHIRPath."""

    key: str
    severity: str
    expression: str


class Binding(msgspec.Struct, array_like=True, frozen=True):
    """`strength` is required, extensible or preferred; `value_set` a canonical, no version."""

    strength: str
    value_set: str


class Rules(msgspec.Struct, frozen=True, rename="camel"):
    """Of one element, by its path in R4."""

    constraint: tuple[Constraint, ...] = ()
    binding: Binding | None = None
    is_modifier: bool = False
    profile: tuple[str, ...] = ()
    max_length: int | None = None
    min_value: int | None = None
    max_value: int | None = None


_NONE: Final = Rules()


@cache
def table(name: str) -> dict[str, msgspec.Raw]:
    """A table with each entry still undecoded."""
    return mapped(DATA / f"{name}.json")


@cache
def rules_of(path: str) -> Rules:
    """The rules of `CarePlan.activity`; of a type where the path is one."""
    raw = table("rules").get(path)
    return msgspec.json.decode(raw, type=Rules) if raw else _NONE

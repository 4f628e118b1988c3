"""Searches of every kind, from a seed, with values from the pools of `generate.py`."""

import json
import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from fhir_server.search.composites import composites
from fhir_server.search.extract import indexed_modifiers, indexed_parameters
from fhir_server.search.filtering import ALLOWED
from tests.search.generate import (
    ADDRESSES,
    CALENDAR,
    CLOCK,
    CODES,
    LATITUDES,
    LONGITUDES,
    NUMBERS,
    REFERENCES,
    STRINGS,
    SYSTEMS,
    URIS,
    VALUE_SETS,
    WORLD,
)


def escaped(text: str) -> str:
    for char in "\\,|$":
        text = text.replace(char, f"\\{char}")
    return text


def parameters(resource_type: str, random: Random) -> list[tuple[str, str]]:
    """Criteria, and perhaps a sort; some of them make no sense and are refused."""
    asked = [_criterion(resource_type, random) for _ in range(random.choice((1, 1, 1, 2, 2, 3)))]
    if random.random() < 0.5:
        known = indexed_parameters(resource_type)
        codes = [*(code for code in known if code != "near"), "_id", "_lastUpdated"]
        keys = [
            random.choice(("", "-")) + random.choice(codes) for _ in range(random.randint(1, 3))
        ]
        asked.append(("_sort", ",".join(keys)))
    return asked


def _criterion(resource_type: str, random: Random) -> tuple[str, str]:
    if random.random() < 0.15:
        name = random.choice(("_filter", "_filter", "_text", "_content"))
        return name, filtered(resource_type, random) if name == "_filter" else worded(random)
    code = random.choice([*indexed_parameters(resource_type), "_id"])
    if random.random() < 0.1:
        return f"{code}:missing", random.choice(("true", "false"))
    if code == "_id":
        ids = ",".join(f"r{random.randint(0, 12)}" for _ in range(random.randint(1, 3)))
        return random.choice(("_id", "_id:not")), ids
    if code == "_lastUpdated":
        return code, random.choice(PREFIXES) + f"@{random.randint(0, 12)}"
    kind = indexed_parameters(resource_type)[code].type
    if kind == "composite":
        components = composites(resource_type)[code].components
        return code, ",".join(
            "$".join(OPERANDS[one.type](random) for one in components)
            for _ in range(random.choice((1, 1, 2)))
        )
    beside = indexed_modifiers(indexed_parameters(resource_type)[code], resource_type)
    by_content = OWN_VALUES if kind == "uri" else (*OWN_VALUES, *CODED)
    offered = [m for m in MODIFIERS[kind] if m[1:] in beside or m[1:] not in by_content]
    modifier = random.choice(offered)
    operand = MODIFIED.get((kind, modifier)) or MODIFIED.get(("", modifier), OPERANDS[kind])
    name = f"{code}{modifier}"
    return name, ",".join(operand(random) for _ in range(random.choice((1, 1, 2, 3))))


def looked_up(resource_type: str, random: Random) -> tuple[str, str]:
    """A criterion on codes that a terminology service must be asked for, or on a place."""
    known = indexed_parameters(resource_type)
    coded = [code for code in known if "in" in indexed_modifiers(known[code], resource_type)]
    if "near" in known and random.random() < 0.5:
        return "near", _place_text(random)
    modifier = random.choice(CODED)
    operand = MODIFIED["token", f":{modifier}"]
    return f"{random.choice(coded)}:{modifier}", operand(random)


def chained(resource_type: str, random: Random, steps: int = 0) -> tuple[str, str]:
    """A criterion behind one to four steps, forward and back."""
    if steps == 0 and random.random() < 0.2:
        return "_filter", filtered(resource_type, random)
    backward = random.random() < 0.4
    link = _back(resource_type, random) if backward else _on(resource_type, random)
    if link is None:
        return _criterion(resource_type, random)
    head, landing = link
    further = steps < 4 and random.random() < 0.35
    name, value = chained(landing, random, steps + 1) if further else _end(landing, random)
    return f"{head}{name}", value


def _end(resource_type: str, random: Random) -> tuple[str, str]:
    if random.random() < 0.3:
        return "_id", random.choice(("1", "2", "1,2", "2,3"))
    if random.random() < 0.2:
        return random.choice([*indexed_parameters(resource_type)]) + ":missing", "false"
    return _criterion(resource_type, random)


def _on(resource_type: str, random: Random) -> tuple[str, str] | None:
    links = [
        (code, target)
        for code, parameter in indexed_parameters(resource_type).items()
        if parameter.type == "reference"
        for target in parameter.targets or WORLD
        if target in WORLD
    ]
    if not links:
        return None
    code, target = random.choice(links)
    return (f"{code}." if random.random() < 0.3 else f"{code}:{target}."), target


def _back(resource_type: str, random: Random) -> tuple[str, str] | None:
    links = [
        (source, code)
        for source in WORLD
        for code, parameter in indexed_parameters(source).items()
        if parameter.type == "reference" and resource_type in (parameter.targets or WORLD)
    ]
    if not links:
        return None
    source, code = random.choice(links)
    return f"_has:{source}:{code}:", source


CODED: Final = ("in", "not-in", "above", "below")
OWN_VALUES: Final = ("text", "of-type", "identifier")
PREFIXES: Final = ("", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
MODIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "token": (*[""] * 8, ":not", ":text", ":of-type", *(f":{name}" for name in CODED)),
    "string": ("", "", ":exact", ":contains"),
    "reference": ("", "", "", ":Patient", ":Group", ":Organization", ":identifier"),
    "date": ("",),
    "number": ("",),
    "quantity": ("",),
    "uri": ("", "", ":above", ":below"),
    "special": ("",),
}


def _token_text(random: Random) -> str:
    code = escaped(random.choice((*CODES, "true", "false", "final")))
    system = escaped(random.choice(SYSTEMS) or "")
    return random.choice((code, code, f"{system}|{code}", f"|{code}", f"{system}|"))


def _string_text(random: Random) -> str:
    text = random.choice(STRINGS)
    start, end = sorted(random.randint(0, len(text)) for _ in range(2))
    return escaped(random.choice((text, text.lower(), text[:end], text[start:end])))


def _reference_text(random: Random) -> str:
    return random.choice(("1", "2", *REFERENCES, *map(escaped, URIS), *URIS))


def _date_text(random: Random) -> str:
    return random.choice(PREFIXES) + random.choice((*CALENDAR, *CLOCK, "2026-01-01T00:00"))


def _number_text(random: Random) -> str:
    return random.choice(PREFIXES) + random.choice((*NUMBERS, "101", "2147483647"))


def _place_text(random: Random) -> str:
    parts = [random.choice(LATITUDES[:-1]), random.choice(LONGITUDES[:-1])]
    if random.random() < 0.8:
        parts.append(
            random.choice(("0", "0.001", "2", "20", "150", "6000", "10007.6", "20015.2", "1e30"))
        )
        parts.append(random.choice(("km", "km", "m", "[mi_i]", "")))
    return "|".join(parts)


def _subsumed_text(random: Random) -> str:
    system = random.choice((*["http://loinc.org"] * 9, "urn:no"))
    return f"{system}|{escaped(random.choice(CODES))}"


def _quantity_text(random: Random) -> str:
    unit = random.choice(("", "", "||kg", "|http://unitsofmeasure.org|kg", "||g", "|urn:other|kg"))
    return _number_text(random) + unit


OPERANDS: Final[Mapping[str, Callable[[Random], str]]] = {
    "token": _token_text,
    "string": _string_text,
    "reference": _reference_text,
    "date": _date_text,
    "number": _number_text,
    "quantity": _quantity_text,
    "uri": lambda random: escaped(random.choice(URIS)),
    "special": _place_text,
}
MODIFIED: Final[Mapping[tuple[str, str], Callable[[Random], str]]] = {
    ("token", ":in"): lambda random: random.choice(VALUE_SETS),
    ("token", ":not-in"): lambda random: random.choice(VALUE_SETS),
    ("token", ":above"): _subsumed_text,
    ("token", ":below"): _subsumed_text,
    ("", ":text"): _string_text,
    ("", ":of-type"): lambda random: "|".join(
        escaped(random.choice(pool)) for pool in (("", *SYSTEMS[1:]), CODES, CODES)
    ),
    ("", ":identifier"): _token_text,
    ("", ":above"): lambda random: random.choice((*ADDRESSES, "http://q.example/1/2/3")),
    ("", ":below"): lambda random: random.choice(ADDRESSES),
}
"""Values that a modifier takes instead of its parameter's, for one kind of parameter or for all."""


def worded(random: Random, depth: int = 0) -> str:
    """A value of `_text` or `_content`."""
    kind = random.random()
    if depth < 3 and kind < 0.3:
        join = random.choice((" ", " AND ", " or ", " OR ", ",", " and "))
        return f"{worded(random, depth + 1)}{join}{worded(random, depth + 1)}"
    if depth < 3 and kind < 0.5:
        form = random.choice(("({})", "-({})", "NOT {}", "NOT ({})", "-{}"))
        return form.format(worded(random, depth + 1))
    if random.random() < 0.8:
        return random.choice(LIKELY)
    text = random.choice((*STRINGS, *CODES, "¶", "\x01", "a" * 300, "NOT", "-"))
    part = text[: random.choice((None, None, 2, 3))]
    return random.choice(("{}", '"{}"', '"{}"*', "{}*")).format(part)


LIKELY: Final = (
    *("ash", "ASH", "ash*", "Field", "fi*", "strasse", '"two words"', '"two wo"*', "words two"),
    *("o'brien", '"O\'Brien, Seán"', "istanbul", "İst*", "a", "b", "a-b", "active", "true", "x"),
    *("日本", "한*", "VIII", "usual", "日", '"ash ash"', "asht*", "e", "first"),
)
"""Words of which many a resource has one."""


def filtered(resource_type: str, random: Random, depth: int = 0) -> str:
    """A value of `_filter`."""
    kind = random.random()
    if depth < 3 and kind < 0.3:
        parts = [filtered(resource_type, random, depth + 1) for _ in range(random.randint(2, 3))]
        return "".join(f"{part}{random.choice((' and ', ' or '))}" for part in parts[1:]) + parts[0]
    if depth < 3 and kind < 0.45:
        form = random.choice(("({})", "not ({})", "NOT( {} )"))
        return form.format(filtered(resource_type, random, depth + 1))
    return _filter_path(resource_type, random)


def _filter_path(resource_type: str, random: Random) -> str:
    """A test, perhaps at the end of steps; some of the steps have a filter of their own."""
    link = _on(resource_type, random) if random.random() < 0.3 else None
    if link is None:
        return _filter_elements(resource_type, random) or _filter_test(resource_type, random)
    head, landing = link
    where = f"[{filtered(landing, random, 3)}]" if random.random() < 0.3 else ""
    return f"{head[:-1]}{where}.{_filter_path(landing, random)}"


def _filter_elements(resource_type: str, random: Random) -> str:
    code, target = random.choice(CODES[:4]), random.choice(REFERENCES)
    return {
        "Group": f"characteristic[code eq {code}].value eq {random.choice(CODES[:4])}",
        "DocumentReference": f"relatesTo[code eq {code} or code eq b].target re {target}",
    }.get(resource_type, "") * (random.random() < 0.3)


def _filter_test(resource_type: str, random: Random) -> str:
    known = [code for code, one in indexed_parameters(resource_type).items() if one.type in ALLOWED]
    code = random.choice([*known, "_id"])
    if random.random() < 0.1:
        return f"{code} pr {random.choice(('true', 'false'))}"
    if code in ("_id", "_lastUpdated"):
        return f"_id {random.choice(('eq', 'ne'))} r{random.randint(0, 12)}"
    kind = indexed_parameters(resource_type)[code].type
    if kind == "composite":
        parts = composites(resource_type)[code].components
        return f"{code} eq {quoted('$'.join(OPERANDS[p.type](random) for p in parts), random)}"
    offered = [one for one in ALLOWED[kind] if one not in ("ss", "sb", "in", "ni")]
    operator, text = random.choice(offered), OPERANDS[kind](random)
    if kind in ("date", "number", "quantity"):
        text = re.sub("^[a-z]+", "", text)
    elif kind == "string":
        text = random.choice(STRINGS)[: random.choice((None, None, 2))]
    return f"{code} {operator} {quoted(text, random)}"


def quoted(text: str, random: Random) -> str:
    """As a token, where it can be one, or as a string of JSON."""
    if random.random() < 0.4 and re.fullmatch(r'[^\s\])"][^\s\])]*', text):
        return text
    return json.dumps(text, ensure_ascii=random.random() < 0.5)

"""From an element to the searches that must find its resource, in the words of the standard.

https://hl7.org/fhir/R4/search.html#table. What stands at the end of a parameter's expression is
found by fhirpathpy, and nothing here leans on what the server extracts.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, Final

from fhir_server.fhir.definitions import SearchParameter, search_parameters
from fhir_server.fhir.json import Resource
from fhir_server.search.composites import composites
from tests.search.ask import escaped
from tests.search.test_extract import ANOTHER_READING, NOT_INDEXED, by_fhirpathpy, composed, plain

Texts = Iterator[tuple[str, str]]
"""Modifier, '' or with its colon, and value."""
_LONGEST: Final = 60
_CONTACTS: Final = ("phone", "fax", "email", "pager", "url", "sms", "other")


def searches(resource: Resource) -> Iterator[tuple[str, str, str]]:
    """Code, modifier and value of searches, of each parameter for which there is an element."""
    resource_type, whole = resource["resourceType"], plain(resource)
    for code, parameter in search_parameters(resource_type).items():
        if code in NOT_INDEXED or (resource_type, code) in ANOTHER_READING:
            continue
        if parameter.type == "composite":
            for text in _composite(parameter, whole):
                yield code, "", text
            continue
        found = by_fhirpathpy(parameter.expression, whole)
        # Where a primitive holds an extension alone, JSON has null in its place.
        for element in (one for one in found if one is not None):
            for modifier, text in TEXTS[parameter.type](element):
                yield code, modifier, text


def _composite(parameter: SearchParameter, whole: Resource) -> Iterator[str]:
    composite = composites(whole["resourceType"]).get(parameter.code)
    if composite is None:
        return
    for context in parameter.expression.split("|"):
        for index in range(len(by_fhirpathpy(context.strip(), whole))):
            start = f"{context.strip()}[{index}]"
            parts = [
                [
                    text
                    for modifier, text in _component(one, expression, start, whole)
                    if not modifier
                ]
                for one, (_, expression) in zip(
                    composite.components, parameter.components, strict=True
                )
            ]
            for texts in product(*(part[:2] for part in parts)):
                yield "$".join(texts)


def _component(one: SearchParameter, expression: str, start: str, whole: Resource) -> Texts:
    from_resource = expression.startswith("%resource.")
    path = expression.removeprefix("%resource.")
    for element in by_fhirpathpy(
        composed(whole["resourceType"] if from_resource else start, path), whole
    ):
        yield from TEXTS[one.type](element)


def _token(element: Any) -> Texts:
    match element:
        case bool():
            yield "", "true" if element else "false"
        case str():
            yield "", escaped(element)
        case {"value": str(value)}:
            system = element.get("system")
            yield "", escaped(value)
            if system is not None and system not in _CONTACTS:
                yield "", f"{escaped(system)}|{escaped(value)}"
        case {"code": str(code)}:
            yield "", escaped(code)
            yield "", f"{escaped(element.get('system', ''))}|{escaped(code)}"
            yield from _begins(":text", element.get("display"))
        case dict():
            yield from _begins(":text", element.get("text"))
            for coding in element.get("coding", ()):
                yield from _token(coding)


def _begins(modifier: str, text: Any) -> Texts:
    if isinstance(text, str) and text.strip():
        yield modifier, escaped(text[:_LONGEST].strip())


def _string(element: Any) -> Texts:
    if isinstance(element, str):
        yield from _begins("", element)
        yield from _begins("", element.upper())
        yield from _begins(":contains", element[len(element) // 3 :])
        if len(element) < _LONGEST:
            yield ":exact", escaped(element)
        return
    names = ("text", "family", "given", "prefix", "suffix", "line", "city", "district", "state")
    for name in (*names, "postalCode", "country"):
        inner = element.get(name, ())
        for text in (inner,) if isinstance(inner, str) else inner:
            yield from _string(text)


def _reference(element: Any) -> Texts:
    if isinstance(element, str):
        yield "", escaped(element.partition("|")[0])
        yield "", element
        return
    if "resourceType" in element and "id" in element:  # what a Bundle begins with
        yield "", f"{element['resourceType']}/{element['id']}"
        return
    text = element.get("reference", "")
    if text and not text.startswith("#"):
        yield "", text
        kind, slash, rest = text.partition("/")
        if slash and kind.isalpha() and "/" not in rest:
            yield "", rest
            yield f":{kind}", rest
    for _, token in _token(element.get("identifier", {})):
        yield ":identifier", token


def _date(element: Any) -> Texts:
    if isinstance(element, str):
        if not element[:4].isdigit():
            # A time in words: no date finds it.
            return
        for prefix in ("", "ge", "le", "ap"):
            yield "", prefix + element
        return
    bounds = element.get("repeat", {}).get("boundsPeriod", element)
    if "start" in bounds and "event" not in element:
        yield "", "ge" + bounds["start"]
        yield "", "gt1000-01-01"
    if "end" in bounds and "event" not in element:
        yield "", "le" + bounds["end"]
    for event in element.get("event", ()):
        yield "", f"ge{min(element['event'])[:4]}"
        yield "", f"le{event[:4]}" if len(element["event"]) == 1 else "gt1000"


def _number(element: Any) -> Texts:
    if not isinstance(element, dict):
        for prefix in ("", "ge", "le", "ap"):
            yield "", f"{prefix}{element}"


def _quantity(element: Any) -> Texts:
    if "value" not in element:
        for name, prefix in (("low", "ge"), ("high", "le")):
            if "value" in element.get(name, {}):
                yield "", f"{prefix}{element[name]['value']}"
        return
    if "comparator" in element:
        way = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[element["comparator"]]
        yield "", f"{way}{element['value']}"
        return
    value, system = element["value"], element.get("system", "")
    code, unit = element.get("code", ""), element.get("unit", "")
    for prefix in ("", "ge", "le", "ap"):
        yield "", f"{prefix}{value}"
    for one in filter(None, (code, unit, element.get("currency"))):
        yield "", f"{value}||{escaped(one)}"
    if system and code:
        yield "", f"{value}|{escaped(system)}|{escaped(code)}"


def _uri(element: Any) -> Texts:
    if isinstance(element, str):
        yield "", escaped(element)


def _position(element: Any) -> Texts:
    place = f"{element['latitude']}|{element['longitude']}"
    yield "", place
    yield "", f"{place}|0.001|km"


TEXTS: Final[Mapping[str, Callable[[Any], Texts]]] = {
    "token": _token,
    "string": _string,
    "reference": _reference,
    "date": _date,
    "number": _number,
    "quantity": _quantity,
    "uri": _uri,
    "special": _position,
}

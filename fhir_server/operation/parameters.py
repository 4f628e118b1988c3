"""Parameters of an operation, checked against its definition.

Sources: https://hl7.org/fhir/R4/operationdefinition.html,
https://hl7.org/fhir/R4/parameters.html.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.validation.primitives import PRIMITIVES

Definition = Mapping[str, Any]

_WHOLE: Final = re.compile(r"-?[0-9]{1,10}", re.ASCII)
_DECIMAL: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?", re.ASCII)


_ANY: Final = "Resource"


class Inputs:
    """Values by parameter name, each of the type that the definition says."""

    def __init__(
        self, values: Mapping[str, Sequence[Any]], places: Mapping[str, str] | None = None
    ) -> None:
        """`places` are FHIRPaths of the parameters in a Parameters resource, None for a query."""
        self._values: Final = values
        self._places: Final = places

    def one(self, name: str) -> Any:
        """The value, None where it was not given."""
        found = self._values.get(name, ())
        return found[0] if found else None

    def all(self, name: str) -> Sequence[Any]:
        return self._values.get(name, ())

    def placed(self, error: FhirError) -> FhirError:
        """What an operation says of `http.[name]`, said of the body where it was given there."""
        if self._places is None or error.allowed_methods or error.retry_after:
            return error
        issues = (
            replace(issue, expression=self._placed(issue.expression)) for issue in error.issues
        )
        return FhirError.of(error.kind, issues, error.challenge)

    def _placed(self, expression: str | None) -> str | None:
        if expression is None or not expression.startswith("http."):
            return expression
        name, dot, rest = expression.removeprefix("http.").partition(".")
        place = (self._places or {}).get(name, expression)
        return f"{place}.value.{rest}" if dot and place != expression else place


def from_body(
    definition: Definition, body: Resource, query: Sequence[tuple[str, str]] = ()
) -> Inputs:
    """The values in a Parameters resource, or the one resource that the operation takes.

    Beside that one resource, the others may stand in the query.

    Raises:
        FhirError: INVALID, with an issue for each parameter that does not fit.
    """
    if body.get("resourceType") != "Parameters":
        sole = _sole_resource(definition, body)
        return _checked(definition, [sole, *_in_query(definition, query)])
    given = []
    for index, part in enumerate(body.get("parameter", ())):
        given.append((part.get("name", ""), _value(part), f"Parameters.parameter[{index}]"))
    return _checked(definition, given, in_body=True)


def from_query(definition: Definition, parameters: Sequence[tuple[str, str]]) -> Inputs:
    """The values in a query string, which holds primitives only.

    Raises:
        FhirError: INVALID, with an issue for each parameter that does not fit.
    """
    return _checked(definition, _in_query(definition, parameters))


def _in_query(definition: Definition, parameters: Sequence[tuple[str, str]]) -> "list[_Given]":
    given: list[_Given] = []
    for name, text in parameters:
        if name in ("_format", "_pretty"):
            continue
        parameter = _inputs(definition).get(name)
        # What is not known is refused with everything else.
        found = ("string", text) if parameter is None else _primitive(parameter, text)
        given.append((name, found, f"http.{name}"))
    return given


_Given = tuple[str, tuple[str, Any], str]
"""Name, (type, value), expression."""


def _inputs(definition: Definition) -> Mapping[str, Mapping[str, Any]]:
    return {p["name"]: p for p in definition.get("parameter", ()) if p["use"] == "in"}


def _sole_resource(definition: Definition, body: Resource) -> _Given:
    name = _resource_type(body)
    for parameter in _inputs(definition).values():
        if parameter.get("type") in (name, _ANY):
            return parameter["name"], (parameter["type"], body), name
    raise FhirError.at(
        Kind.INVALID,
        "resourceType",
        f"${definition['code']} does not take a {name}; a Parameters resource is expected",
    )


def _value(part: Resource) -> tuple[str, Any]:
    if "resource" in part:
        return _resource_type(part["resource"]), part["resource"]
    for name, value in part.items():
        if name.startswith("value"):
            bare = name.removeprefix("value")
            return bare, value
    return "", part.get("part", [])


def _resource_type(resource: Resource) -> str:
    """`Resource` for one that R4 does not have: only an operation on faulty ones is given that."""
    name = resource.get("resourceType")
    return name if isinstance(name, str) and is_resource_type(name) else _ANY


def _primitive(parameter: Mapping[str, Any], text: str) -> tuple[str, Any]:
    """Type and value of a parameter that stands in the query as text."""
    name, expected = parameter["name"], parameter.get("type", "")
    place = f"http.{name}"
    check = PRIMITIVES.get(expected)
    if check is None:
        kind = expected or "group"
        raise FhirError.at(
            Kind.INVALID, place, f"'{name}' is a {kind}; it is sent in a Parameters resource"
        )
    value = _read(expected, text, place)
    if problem := check(value):
        raise FhirError.at(Kind.INVALID, place, f"'{name}' {problem}")
    return expected, value


def _read(expected: str, text: str, place: str) -> Any:
    match expected:
        case "boolean":
            if text in ("true", "false"):
                return text == "true"
            raise FhirError.at(Kind.INVALID, place, f"'{text}' is not true or false")
        case "integer" | "positiveInt" | "unsignedInt":
            if _WHOLE.fullmatch(text):
                return int(text)
            raise FhirError.at(Kind.INVALID, place, f"'{text[:40]}' is not a whole number")
        case "decimal":
            if _DECIMAL.fullmatch(text):
                return Decimal(text)
            raise FhirError.at(Kind.INVALID, place, f"'{text[:40]}' is not a decimal number")
        case "instant" | "dateTime":
            # The + of a zone arrives as a space where it was not percent-encoded.
            return text.replace(" ", "+")
        case _:
            return text


def _checked(definition: Definition, given: Sequence[_Given], *, in_body: bool = False) -> Inputs:
    expected = _inputs(definition)
    issues: list[Issue] = []
    values: dict[str, list[Any]] = {}
    places: dict[str, str] = {}
    for name, (kind, value), expression in given:
        places[name] = expression
        parameter = expected.get(name)
        if parameter is None:
            issues.append(Issue(_unknown(definition, name, expected), expression))
        elif not _fits(kind, parameter.get("type", "")):
            text = f"'{name}' is a {kind or 'group'}; {parameter.get('type')} is expected"
            issues.append(Issue(text, expression))
        else:
            values.setdefault(name, []).append(value)
    issues += [
        issue
        for name, parameter in expected.items()
        for issue in _counted(parameter, len(values.get(name, ())), places.get(name))
    ]
    if issues:
        raise FhirError.of(Kind.INVALID, issues)
    everywhere = dict.fromkeys(expected, "Parameters.parameter")
    return Inputs(values, {**everywhere, **places} if in_body else None)


def _fits(kind: str, expected: str) -> bool:
    if expected == _ANY:
        return kind == _ANY or is_resource_type(kind)
    if expected == "dateTime" and kind == "Date":
        return True
    return kind.lower() == expected.lower()


def _counted(parameter: Mapping[str, Any], count: int, place: str | None) -> list[Issue]:
    """`place` is where it was given last; what does not fit is reported as that alone."""
    name, least, most = parameter["name"], parameter["min"], parameter["max"]
    if count < least and not (place and count == 0):
        text = f"'{name}' is missing; at least {least} is required"
        return [Issue(text, place or "Parameters.parameter", "required")]
    if most != "*" and count > int(most):
        return [Issue(f"'{name}' is given {count} times; at most {most} is allowed", place)]
    return []


def _unknown(definition: Definition, name: str, expected: Mapping[str, Any]) -> str:
    allowed = ", ".join(expected) or "none"
    return f"'{name}' is not a parameter of ${definition['code']}; allowed: {allowed}"

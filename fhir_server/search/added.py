"""SearchParameter resources of clients: what they ask for, and whether the server can do it.

Source: https://hl7.org/fhir/R4/searchparameter.html. Only an `active` one takes effect; one that
cannot be used is refused while it says so, with every reason, and stored under any other status.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_server.errors import FhirError, Issue, Kind
from fhir_server.fhir.definitions import lineage, resource_types, search_parameters
from fhir_server.search.extract import routes_of
from fhir_server.search.parameters import Definition, ParameterSet
from fhir_server.search.paths import Route, UnknownPath, routes

TYPE: Final = "SearchParameter"
KINDS: Final = ("token", "string", "reference", "date", "number", "quantity", "uri")
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
"""`_` begins the standard's own names; `:` and `.` part names from modifiers and chains."""
_LONGEST: Final = 2000
"""Characters of an expression."""
_GIVEN_BY_SERVER: Final = ("lastUpdated", "versionId")


def redefined(
    known: ParameterSet, resource_id: str, resource: Mapping[str, Any] | None
) -> ParameterSet:
    """The parameters after a SearchParameter resource was written, or deleted (None).

    Raises:
        FhirError: BUSINESS_RULE for an active one that cannot be used; DUPLICATE where one of
            its types has a parameter of that code.
    """
    definition = None if resource is None else _definition(resource)
    changed = known.defined(resource_id, definition)
    if definition is not None and changed is not known:
        _require_free(known, resource_id, definition)
    return changed


def _definition(resource: Mapping[str, Any]) -> Definition | None:
    """What it asks for; None where it takes no effect."""
    if resource["status"] != "active":
        return None
    definition = Definition(
        url=_text(resource, "url"),
        code=_text(resource, "code"),
        type=_text(resource, "type"),
        expression=_text(resource, "expression").strip(),
        bases=tuple(name for name in resource["base"] if isinstance(name, str)),
        targets=tuple(name for name in resource.get("target", ()) if isinstance(name, str)),
    )
    if _is_built_in(definition):
        return None
    issues = [*_problems(resource, definition)]
    if issues:
        raise FhirError.of(Kind.BUSINESS_RULE, issues)
    return definition


def _text(resource: Mapping[str, Any], name: str) -> str:
    """A primitive that may be an extension without a value."""
    value = resource.get(name)
    return value if isinstance(value, str) else ""


def _is_built_in(definition: Definition) -> bool:
    """Whether it is a description of what the server has anyway."""
    return all(
        (known := search_parameters(name).get(definition.code)) is not None
        and known.url == definition.url
        for name in _types(definition.bases)
    )


def _types(bases: Sequence[str]) -> list[str]:
    return [name for name in resource_types() if not set(bases).isdisjoint(lineage(name))]


def _problems(resource: Mapping[str, Any], definition: Definition) -> Iterator[Issue]:
    if not _CODE.fullmatch(definition.code):
        text = f"'{definition.code}' cannot be the name of a parameter; up to 64 of A-Z a-z 0-9 -"
        yield _issue("code", f"{text} can, beginning with a letter")
    usage = resource.get("xpathUsage", "normal")
    if usage != "normal":
        yield _issue("xpathUsage", f"'{usage}' is not supported; normal is")
    if definition.type not in KINDS:
        yield _issue("type", f"'{definition.type}' is not supported; {', '.join(KINDS)} are")
    elif not definition.expression:
        yield _issue("expression", "There is no expression; without it nothing can be found")
    elif len(definition.expression) > _LONGEST:
        yield _issue("expression", f"The expression is longer than {_LONGEST} characters")
    else:
        yield from _problems_of_path(definition)


def _problems_of_path(definition: Definition) -> Iterator[Issue]:
    """Each type that it names must have values by it; of Resource's many types, some."""
    expression = definition.expression
    for base in definition.bases:
        problems = [_problem(definition, name) for name in _types([base])]
        if all(problems):
            yield _issue("expression", f"'{expression}' {problems[0]}; see docs/api")
            return


def _problem(definition: Definition, resource_type: str) -> str:
    """Why resources of the type can have no values; '' where they can."""
    try:
        found = routes(definition.expression, resource_type)
    except UnknownPath:
        return f"is no path of {resource_type} that this server can follow"
    if any(route.present for route in found) or any(not route.steps for route in found):
        return f"is more than a path to elements of {resource_type}"
    if any(map(_is_given_by_server, found)):
        return "leads to what the server sets itself; _lastUpdated searches for that"
    if not found:
        return f"leads to nothing in {resource_type}"
    if not routes_of(definition.parameter(), resource_type):
        types = ", ".join(dict.fromkeys(route.type for route in found))
        return f"leads to {types} in {resource_type}, which no {definition.type} is made of"
    return ""


def _is_given_by_server(route: Route) -> bool:
    names = [step.name for step in route.steps]
    return names[:1] == ["meta"] and names[-1] in _GIVEN_BY_SERVER


def _require_free(known: ParameterSet, resource_id: str, definition: Definition) -> None:
    for name in _types(definition.bases):
        other = search_parameters(name).get(definition.code)
        if other is not None:
            raise _taken(definition.code, name, other.url)
        for one in known.account.added:
            if (
                one.id != resource_id
                and one.definition.code == definition.code
                and one.definition.is_of(name)
            ):
                raise _taken(definition.code, name, f"{TYPE}/{one.id}")


def _taken(code: str, resource_type: str, owner: str) -> FhirError:
    text = f"{resource_type} has a search parameter '{code}' already: {owner}; choose another code"
    return FhirError.at(Kind.DUPLICATE, f"{TYPE}.code", text)


def _issue(name: str, text: str) -> Issue:
    hint = "; with another status than active it is stored without effect"
    return Issue(text + hint, f"{TYPE}.{name}", "not-supported")

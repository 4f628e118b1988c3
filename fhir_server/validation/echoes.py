"""A problem is told once: what only repeats another problem waits until that is mended.

Whatever waits has a cause among what is told, an error itself, so nothing gets in by it. What R4
refuses by itself is known before any profile is asked, and rules of profiles that look at it wait
where they run (`Report.has_wrong`); here is what only the whole report tells.

- An invariant waits for errors of the values that it looks at, whoever tells of them: that a
  `Consent` has a `policyRule` is asked by R4 and, better, by the profile that needs one.
- Of what rules say of one value (type, fixed value, binding, …) the gravest is told, of those the
  one that says most: a fixed value says more than a binding.
- Of what is said of how many there are, that of a slice says more than that of its element.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from fhir_server.errors import MAX_ISSUES, Issue
from fhir_server.fhirpath.names import ANYWHERE, EXTENSION
from fhir_server.validation.labels import is_alike, labelled
from fhir_server.validation.report import OF_OBJECTS, OF_VALUES, Note, is_cause, splits_of

_SEVERITIES: Final = ("fatal", "error", "warning", "information")
_OF_ONE_VALUE: Final = (
    "type",
    "fixed",
    "pattern",
    "binding",
    "targetProfile",
    "profile",
    "minValue",
    "maxValue",
    "maxLength",
)
"""Rules of a profile about one value, what says most first."""
_OF_NUMBERS: Final = ("min", "max")
_ADDRESS: Final = "address"
"""An extension whose url is known to be meant for another."""
_NONE: Final = Note()
_Key = tuple[str | None, str]
_Paths = dict[str, set[str]]


def told_once(
    issues: Sequence[Issue], notes: Mapping[int, Note], resource: Mapping[str, Any] | None = None
) -> list[Issue]:
    """Without what repeats another; `notes` are those of the issues, by their index.

    `resource` is the one that all the expressions begin with.

    Their severities have to be those that a policy has given them.
    """
    if len(issues) < 2:
        return list(issues)
    causes = _Causes(issues, resource)
    kept = {
        index: issue
        for index, issue in enumerate(issues)
        if index not in notes or not _waits(issue, notes[index], causes)
    }
    _spare(kept, notes)
    best = _best(kept, notes)
    refused = {each.expression for each in kept.values() if _is_refused(each)}
    of_parts = {(each.expression, each.rule) for n, each in kept.items() if _part(n, notes)}
    return [
        issue
        for index, issue in kept.items()
        if best[_key(index, issue, notes)] == index
        and not _is_of_form(issue, refused)
        and not (_is_number(index, issue, notes) and (issue.expression, issue.rule) in of_parts)
    ]


def told_besides(told: Sequence[Issue], further: Iterable[Issue]) -> list[Issue]:
    """What is told already, and what open questions of bindings came to.

    Of one value the gravest is told, and of those alike what was told already.
    """
    found = told_once(list(further), {})
    before = {each.expression: _gravity(each) for each in reversed(told) if _is_of_value(each)}
    after = {each.expression: _gravity(each) for each in found if _is_of_value(each)}
    none = len(_SEVERITIES)
    return [
        *(x for x in told if x.rule != "binding" or _gravity(x) <= after.get(x.expression, none)),
        *(x for x in found if not _is_of_value(x) or _gravity(x) < before.get(x.expression, none)),
    ]


def _is_of_value(issue: Issue) -> bool:
    return issue.rule in _OF_ONE_VALUE or (issue.rule is None and issue.code in OF_VALUES)


def in_order(issues: Iterable[Issue]) -> list[Issue]:
    """The gravest first."""
    return sorted(issues, key=_gravity)


def _gravity(issue: Issue) -> int:
    return _SEVERITIES.index(issue.severity)


# What waits --------------------------------------------------------------------------------------


class _Causes:
    """Where errors are, as paths from each place around them: `of_values` and `of_rules`."""

    def __init__(self, issues: Sequence[Issue], resource: Mapping[str, Any] | None) -> None:
        self.of_values: _Paths = {}
        self.of_rules: _Paths = {}
        for issue in issues[:MAX_ISSUES]:
            if not issue.expression or issue.severity != "error":
                continue
            if is_cause(issue) or issue.rule == _ADDRESS or _leads_nowhere(issue):
                _put(self.of_values, issue, resource)
            elif issue.code == "invariant":
                _put(self.of_rules, issue, resource)


def _put(found: _Paths, issue: Issue, resource: Mapping[str, Any] | None) -> None:
    for at, path in _paths(issue, resource):
        found.setdefault(at, set()).add(path)


def _paths(issue: Issue, resource: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Each place on the way with the path from there, also with the urls of extensions in it."""
    text = str(issue.expression)
    yield from splits_of(text)
    steps = text.split(".")
    if any(step.startswith(EXTENSION) for step in steps):
        names = labelled(steps, resource)
        for count in range(1, len(names) + 1):
            yield ".".join(steps[:count]), ".".join(names[count:])


def _leads_nowhere(issue: Issue) -> bool:
    """A reference that nothing answers."""
    return issue.code == "not-found" and issue.rule is None


def _waits(issue: Issue, note: Note, causes: _Causes) -> bool:
    """For values that it looks at, and for broken rules of what is in its own focus.

    Those are further in, so no two rules wait for each other. That an object has content is a
    rule of itself, and waits for what should be in it.
    """
    is_of_object = issue.rule in OF_OBJECTS
    for at, paths in note.looks:
        of_values, of_rules = causes.of_values.get(at, set()), causes.of_rules.get(at, set())
        for path in paths:
            if (path or not is_of_object) and _is_wrong(path, of_values):
                return True
            if path and at == issue.expression and _is_wrong(path, of_rules):
                return True
    return False


def _is_wrong(path: str, causes: set[str]) -> bool:
    before, anywhere, after = path.partition(ANYWHERE)
    if not anywhere:
        return path in causes or ("(" in path and any(is_alike(path, each) for each in causes))
    return any(f".{each}".endswith(after) and each.startswith(before) for each in causes)


def _spare(kept: dict[int, Issue], notes: Mapping[int, Note]) -> None:
    """An extension with the address of none may be the one that a slice needs: one for each."""
    meant = Counter(
        str(issue.expression).rpartition("[")[0]
        for issue in kept.values()
        if issue.rule == _ADDRESS and issue.severity == "error"
    )
    for index, issue in list(kept.items()) if meant else ():
        if issue.rule == "min" and _part(index, notes) and meant[str(issue.expression)]:
            meant[str(issue.expression)] -= 1
            del kept[index]


# What says the same ------------------------------------------------------------------------------


def _is_refused(issue: Issue) -> bool:
    """Whether R4 itself refuses the value."""
    return issue.profile is None and issue.code in OF_VALUES and issue.severity == "error"


def _is_of_form(issue: Issue, refused: set[str | None]) -> bool:
    """Of a value that R4 refuses, what profiles say of its form waits."""
    return issue.profile is not None and issue.code in OF_VALUES and issue.expression in refused


def _is_number(index: int, issue: Issue, notes: Mapping[int, Note]) -> bool:
    """Of a whole element, of which each slice has a number of its own."""
    return issue.rule in _OF_NUMBERS and not _part(index, notes)


def _key(index: int, issue: Issue, notes: Mapping[int, Note]) -> _Key:
    """What is the same for problems that are told as one."""
    if issue.rule in _OF_ONE_VALUE and not _part(index, notes):
        return issue.expression, "value"
    if _is_number(index, issue, notes):
        return issue.expression, str(issue.rule)
    return issue.expression, f"{issue.code} {issue.text}"


def _best(kept: Mapping[int, Issue], notes: Mapping[int, Note]) -> dict[_Key, int]:
    """The problem that stands for all with its key."""
    found: dict[_Key, int] = {}
    for index, issue in kept.items():
        first = found.setdefault(_key(index, issue, notes), index)
        if _rank(issue) < _rank(kept[first]):
            found[_key(index, issue, notes)] = index
    return found


def _rank(issue: Issue) -> tuple[int, int, bool]:
    rule = _OF_ONE_VALUE.index(issue.rule) if issue.rule in _OF_ONE_VALUE else 0
    return _gravity(issue), rule, issue.profile is None


def _part(index: int, notes: Mapping[int, Note]) -> str:
    return notes.get(index, _NONE).part

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

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fhir_server.errors import MAX_ISSUES, Issue
from fhir_server.fhirpath.names import ANYWHERE
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
_NONE: Final = Note()
_Key = tuple[str | None, str]
_Causes = dict[str, set[str]]


def told_once(issues: Sequence[Issue], notes: Mapping[int, Note]) -> list[Issue]:
    """Without what repeats another; `notes` are those of the issues, by their index.

    Their severities have to be those that a policy has given them.
    """
    if len(issues) < 2:
        return list(issues)
    causes = _causes(issues)
    kept = {
        index: issue
        for index, issue in enumerate(issues)
        if index not in notes or not _waits(issue, notes[index], causes)
    }
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


def in_order(issues: Iterable[Issue]) -> list[Issue]:
    """The gravest first."""
    return sorted(issues, key=_gravity)


def _gravity(issue: Issue) -> int:
    return _SEVERITIES.index(issue.severity)


# What waits --------------------------------------------------------------------------------------


def _causes(issues: Sequence[Issue]) -> _Causes:
    """Where errors of values are, as paths from each place around them."""
    found: _Causes = {}
    for issue in issues[:MAX_ISSUES]:
        if issue.expression and (is_cause(issue) or _leads_nowhere(issue)):
            for at, path in splits_of(issue.expression):
                found.setdefault(at, set()).add(path)
    return found


def _leads_nowhere(issue: Issue) -> bool:
    """A reference that nothing answers."""
    return issue.code == "not-found" and issue.severity == "error" and issue.rule is None


def _waits(issue: Issue, note: Note, causes: _Causes) -> bool:
    """A rule that an object has content is its own error, and waits for what should be in it."""
    is_of_object = issue.rule in OF_OBJECTS
    return any(
        _is_wrong(path, causes[at])
        for at, paths in note.looks
        if at in causes
        for path in paths
        if path or not is_of_object
    )


def _is_wrong(path: str, causes: set[str]) -> bool:
    before, anywhere, after = path.partition(ANYWHERE)
    if not anywhere:
        return path in causes
    return any(f".{each}".endswith(after) and each.startswith(before) for each in causes)


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

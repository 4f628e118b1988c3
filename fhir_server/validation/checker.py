"""The whole check of a resource: R4's definition, then each profile that it has to fit.

The base definition is always checked; profiles are those that the resource claims, those that
are required of it, and those that the caller names. Checkers are compiled when they are first
used and kept.

Sources: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/profiling.html
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import RLock
from typing import Any, Final, Literal, NamedTuple

from fhir_server.errors import Issue
from fhir_server.fhir import json
from fhir_server.terminology.known import KnownCodes
from fhir_server.terminology.service import Terminology
from fhir_server.validation.codes import Codes
from fhir_server.validation.echoes import in_order, told_besides, told_once
from fhir_server.validation.places import Place, expression
from fhir_server.validation.primitives import PRIMITIVES, shown
from fhir_server.validation.profiles.claims import DEFAULT, LENIENT, Requirements, claimed, required
from fhir_server.validation.profiles.compile import Check, compile_profile
from fhir_server.validation.profiles.extensions import KnownExtensions
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.profiles.tree import ProfileError
from fhir_server.validation.report import Met, Note, Question, Report
from fhir_server.validation.settling import Settler
from fhir_server.validation.structure import bounded, check_base

Severity = Literal["refuse", "warn"]
_canonical_problem: Final = PRIMITIVES["canonical"]
"""What is no canonical at all is told as such, and not as an unknown one besides."""
_LARGE: Final = 64 * 1024
"""Bytes of a resource whose check would keep requests waiting."""
_MAX_CLAIMED: Final = 50
"""Profiles of one resource that are checked; each takes its time."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which profiles are required, and what a broken one does.

    `lenient` are profiles whose errors are warnings; one that ends in `*` stands for all that
    begin so. `unknown` says what is done with a claimed profile that is not known here.
    """

    requirements: Requirements
    lenient: tuple[str, ...] = ()
    unknown: Severity = "warn"

    def warns_only(self, profile: str) -> bool:
        return any(
            profile.startswith(each[:-1]) if each.endswith("*") else profile == each
            for each in self.lenient
        )


DEFAULT_POLICY: Final = Policy(DEFAULT, LENIENT)


@dataclass(frozen=True, slots=True)
class Findings:
    """Every problem once, errors first, and what could not be told at once.

    `profiles` are those that the resource itself was really checked against.
    """

    issues: tuple[Issue, ...]
    questions: tuple[Question, ...]
    profiles: tuple[str, ...] = ()

    def settled(self, issues: Iterable[Issue]) -> "Findings":
        """With what the open questions came to."""
        told = bounded(in_order(told_besides(self.issues, issues)))
        return replace(self, issues=tuple(told), questions=())

    @property
    def errors(self) -> list[Issue]:
        return [issue for issue in self.issues if issue.severity in ("error", "fatal")]

    @property
    def breaks_definition(self) -> bool:
        """Whether R4 itself refuses it, not only a profile."""
        return any(issue.profile is None for issue in self.errors)


class _Profile(NamedTuple):
    """`check` is None for a type of R4 itself, which is checked anyway."""

    canonical: str
    type: str
    check: Check | None


class Checker:
    """Checks resources; one for a whole server, of whatever threads."""

    def __init__(
        self,
        library: Library | None = None,
        codes: Codes | None = None,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self.library: Final = library or Library()
        self._codes = codes or KnownCodes()
        self._policy = policy
        self._checks: dict[str, Check] = {}
        self._begun: set[str] = set()
        """Those that are being compiled, by the thread that holds the lock."""
        self._profiles: dict[str, _Profile] = {}
        # Where one that a setting names is not there, the server does not start.
        self._requirements = {
            type_name: [each for each in wanted if self.library.is_known(each.profile)]
            for type_name, wanted in policy.requirements.items()
        }
        self._extensions = KnownExtensions(self.library, self.check_of)
        self._lock = RLock()

    def check(
        self,
        resource: Mapping[str, Any],
        *,
        expected_type: str | None = None,
        profiles: Sequence[str] = (),
    ) -> Findings:
        """`profiles` are canonicals that it has to fit beside what it claims."""
        report = Report(self._codes, self._extensions)
        check_base(resource, report, expected_type)
        applied: list[list[str]] = []
        for met in report.met[:]:
            report.enter(met)
            applied.append(self._check_profiles(met, () if applied else profiles, report))
        of_all = tuple(applied[0]) if applied else ()
        found = told_once([self._by_policy(issue) for issue in report], report.notes, resource)
        return Findings(tuple(bounded(in_order(found))), tuple(report.questions), of_all)

    async def check_all(
        self,
        resource: Mapping[str, Any],
        terminology: Terminology,
        *,
        expected_type: str | None = None,
        profiles: Sequence[str] = (),
    ) -> Findings:
        """As `check`, with open questions settled; of what is large beside the loop.

        A Bundle may take seconds, and what rules write a fraction of what a thread costs.
        """
        here = partial(self.check, resource, expected_type=expected_type, profiles=profiles)
        small = len(json.encode(resource)) < _LARGE
        findings = here() if small else await asyncio.to_thread(here)
        if not findings.questions:
            return findings
        return findings.settled(await self.settle(findings.questions, Settler(terminology)))

    async def settle(self, questions: Iterable[Question], settler: Settler) -> list[Issue]:
        """What comes of open questions, as grave as the policy says."""
        found = [self._by_policy(issue) for issue in await settler.issues(questions)]
        return bounded(in_order(found))

    def check_of(self, canonical: str) -> Check | None:
        """The checker of a profile, None where it is not known; ProfileError as `compile`."""
        known = self._checks.get(canonical)
        if known is not None:
            return known
        with self._lock:
            return self._compiled(canonical)

    def _compiled(self, canonical: str) -> Check | None:
        """A profile that leads to itself finds a stand-in there, which looks it up when it runs."""
        if canonical in self._checks:
            return self._checks[canonical]

        def later(node: Mapping[str, Any], place: Place, report: Report) -> None:
            check = self.check_of(canonical)
            if check is not None:
                check(node, place, report)

        if canonical in self._begun:
            return later
        self._begun.add(canonical)
        try:
            made = compile_profile(canonical, self.library, self.check_of)
        finally:
            self._begun.discard(canonical)
        if made is not None:
            self._checks[canonical] = made
        return made

    # Which profiles --------------------------------------------------------------------------

    def _check_profiles(self, met: Met, named: Sequence[str], report: Report) -> list[str]:
        """The canonicals that were applied."""
        own = claimed(met.resource)
        if len(own) > _MAX_CLAIMED:
            text = f"at most {_MAX_CLAIMED} profiles can be claimed, not {len(own)}"
            report.append(Issue(text, _at_claim(met), "too-costly"))
            return []
        for index, canonical in enumerate(own):
            if not self._knows(canonical) and _canonical_problem(canonical) is None:
                report.append(self._unknown(canonical, met, index))
        applied = []
        wanted = (*own, *named, *required(met.resource, self._requirements))
        for canonical in dict.fromkeys(wanted):
            try:
                profile = self._profile(canonical)
                if profile is not None:
                    _check_profile(profile, met, report)
                    applied.append(canonical)
            except ProfileError as error:
                report.append(_unusable(error))
            except RecursionError:
                text = "what it refers to refers on too far to be checked"
                report.append(Issue(text, expression(met.place), "too-costly"))
        return applied

    def _knows(self, canonical: str) -> bool:
        return canonical in self._profiles or self.library.is_known(canonical)

    def _profile(self, canonical: str) -> "_Profile | None":
        """Only what is known is kept: senders can make up any number of canonicals."""
        found = self._profiles.get(canonical)
        if found is None and (type_name := self.library.type_of(canonical)) is not None:
            is_profile = self.library.definition(canonical) is not None
            check = self.check_of(canonical) if is_profile else None
            found = self._profiles[canonical] = _Profile(canonical, type_name, check)
        return found

    def _unknown(self, canonical: str, met: Met, index: int) -> Issue:
        refused = self._policy.unknown == "refuse"
        text = f"the profile {shown(canonical)} is not known here, so it was not checked"
        at = f"{_at_claim(met)}[{index}]"
        severity = "error" if refused else "warning"
        return Issue(text, at, "not-found", severity, "profile", canonical)

    def _by_policy(self, issue: Issue) -> Issue:
        if issue.severity != "error" or issue.profile is None:
            return issue
        return (
            replace(issue, severity="warning") if self._policy.warns_only(issue.profile) else issue
        )


def _check_profile(profile: _Profile, met: Met, report: Report) -> None:
    actual = met.resource.get("resourceType")
    if profile.type not in (actual, "Resource", "DomainResource"):
        text = f"{profile.canonical} is a profile of {profile.type}, and this is a {actual}"
        note = Note(part=profile.canonical)
        Say(profile.canonical)(report, met.place, text, "structure", "type", note=note)
    elif profile.check is not None:
        profile.check(met.resource, met.place, report)


def _at_claim(met: Met) -> str:
    return f"{expression(met.place)}.meta.profile"


def _unusable(error: ProfileError) -> Issue:
    """Nothing may come in unchecked because a definition is broken."""
    return Issue(f"The {error}", None, "processing", "error", "definition", error.profile)


@cache
def standard_checker() -> Checker:
    """With what is shipped and the default policy; one for all who need no other."""
    return Checker()

"""The table decides what a second reading of it, of whole resources, decides."""

import os
from datetime import datetime
from typing import Final

from hypothesis import event, given, settings

from fhir_server.access.caller import Caller
from fhir_server.access.decision import Decision, Sight
from fhir_server.access.table import decide
from fhir_server.fhir.json import Resource
from tests.access import oracle
from tests.access.oracle_chart import TYPES
from tests.access.worlds import (
    SIGNATORIES,
    asker,
    callers,
    case,
    likely_callers,
    likely_moments,
    likely_worlds,
    moments,
    worlds,
)

SHARE: Final = 20 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 1
_SIGHTS: Final = {Sight.ALL: "all", Sight.COLOUR: "colour"}


def _verdict(decision: Decision) -> oracle.Verdict:
    return oracle.Verdict(
        decision.row,
        {area.value: _SIGHTS[sight] for area, sight in decision.reads},
        frozenset(TYPES) - decision.without_types,
        frozenset(code for _, code in decision.without_labels),
        frozenset(area.value for area in decision.writes),
        frozenset(right.value for right in decision.rights),
        decision.plan_categories,
    )


def _agree(world: list[Resource], caller: Caller, now: datetime) -> None:
    found = _verdict(decide(case(world, caller, now)))
    wanted = oracle.decide(world, asker(caller), now, SIGNATORIES)
    event(f"row {wanted.row}")
    # A denial of labelled data that cannot be told exactly takes out all with the label.
    assert found.hidden_labels >= wanted.hidden_labels
    found.hidden_labels = wanted.hidden_labels
    assert found == wanted


@settings(max_examples=250 * SHARE)
@given(likely_worlds(), likely_callers, likely_moments)
def test_the_table_is_read_the_same_way_twice(
    world: list[Resource], caller: Caller, now: datetime
) -> None:
    """Of papers as they come, a few of them wrong."""
    _agree(world, caller, now)


@settings(max_examples=80 * SHARE)
@given(worlds(), callers, moments)
def test_odd_papers_are_read_the_same_way_twice(
    world: list[Resource], caller: Caller, now: datetime
) -> None:
    _agree(world, caller, now)

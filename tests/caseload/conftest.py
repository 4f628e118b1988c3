"""Every rule is tried on several caseloads."""

from datetime import date

import pytest

from tests.caseload.reading import AS_OF, Caseload

CHOICES = [(7, AS_OF), (1, date(2024, 2, 29)), (2, date(2026, 8, 30)), (99, date(2027, 1, 1))]


@pytest.fixture(params=CHOICES, ids=lambda choice: f"seed {choice[0]} as of {choice[1]}")
def caseload(request: pytest.FixtureRequest) -> Caseload:
    return Caseload(*request.param)

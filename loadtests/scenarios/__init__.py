"""What a region's systems do on a working day, a file to each sort of them.

None of it knows Locust: a scenario asks through an `Actor`, so that tests play the same requests
without a clock. `loadtests/locustfile.py` gives them one.
"""

from typing import Final

from loadtests.scenarios import (
    commissioner,
    inpatient_units,
    keyworkers,
    morning_rush,
    night_export,
    partners,
    subscribers,
    wild_retries,
)
from loadtests.scenarios.acting import Scenario

ALL: Final[tuple[Scenario, ...]] = (
    partners.SCENARIO,
    keyworkers.SCENARIO,
    morning_rush.SCENARIO,
    inpatient_units.SCENARIO,
    commissioner.SCENARIO,
    night_export.SCENARIO,
    subscribers.SCENARIO,
    wild_retries.SCENARIO,
)
BY_NAME: Final = {one.name: one for one in ALL}

"""Build `operations/data/bank-holidays.json`: the bank holidays of England, by year.

    python -m tools.build_bank_holidays [--out FILE]

They are what the library `holidays` (MIT, https://github.com/vacanza/holidays) knows of England:
the days of the Banking and Financial Dealings Act 1971 and of common law, those in place of days at
a weekend, and those proclaimed so far (https://www.gov.uk/bank-holidays). A server reads the table,
as the library loads the calendars of all countries: 11 MB of each process. A day that is proclaimed
later comes with a newer library and another run; a test compares the two.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import holidays

TABLE: Final = Path(__file__).parents[1] / "operations" / "data" / "bank-holidays.json"
YEARS: Final = range(2000, 2101)


def table() -> Mapping[str, list[str]]:
    """Year -> its bank holidays, as month and day."""
    known = holidays.country_holidays("GB", subdiv="ENG", years=YEARS, language="en_GB")
    return {
        str(year): sorted(f"{day:%m-%d}" for day in known if day.year == year) for year in YEARS
    }


def text() -> str:
    """A line for each year, so that a change shows as a small diff."""
    lines = (f"{json.dumps(year)}: {json.dumps(days)}" for year, days in table().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.parse_args().out.write_text(text())


if __name__ == "__main__":
    main()

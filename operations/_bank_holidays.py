"""The bank holidays of England, of a table that `tools/build_bank_holidays.py` makes."""

from datetime import date
from functools import lru_cache
from importlib.resources import files
from typing import Final

import msgspec

_TABLE: Final = files("operations") / "data" / "bank-holidays.json"


def is_bank_holiday(day: date) -> bool:
    """Whether it is one that is known; of years that the table does not have, none is."""
    return f"{day:%m-%d}" in _years().get(str(day.year), ())


@lru_cache(maxsize=1)
def _years() -> dict[str, frozenset[str]]:
    """Year -> its bank holidays, as month and day."""
    return msgspec.json.decode(_TABLE.read_bytes(), type=dict[str, frozenset[str]])

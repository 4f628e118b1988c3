"""What the check of a whole store comes to, whichever backend keeps it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """What was looked at, how many faults were found, and how many of them mended."""

    resources: int = 0
    versions: int = 0
    entries: int = 0
    found: int = 0
    mended: int = 0

    @property
    def sound(self) -> bool:
        return self.found == self.mended

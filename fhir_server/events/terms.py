"""What the settings say of notices, and what else their parts are given."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fhir_server.access.caller import Caller
from fhir_server.access.session import Session
from fhir_server.outgoing import NOWHERE, Outgoing
from fhir_server.search.limits import Limits

SECOND: Final = 1_000_000
DAY: Final = 24 * 3600 * SECOND
OpenSession = Callable[[Caller], Session]


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds, where nothing else is said."""

    base: str
    """The FHIR base that addresses in notices stand on."""
    clock: Callable[[], int]
    """Microseconds since the epoch."""
    endpoints: Outgoing = NOWHERE
    """The way to the receivers of rest-hooks."""
    limits: Limits = field(default_factory=Limits)
    days: int = 90
    """For which a subscription lives, unless its caller renews it."""
    most: int = 100
    """Subscriptions of one caller that are at work."""
    concurrency: int = 100
    """Notices that one process sends at a time."""
    every: float = 1.0
    """Between two looks at the outbox."""
    patience: float = 10.0
    """That a receiver may take, where the subscription does not say."""
    longest_patience: float = 60.0
    retry_first: float = 5.0
    """Before the second attempt; then twice as long each time."""
    retry_longest: float = 3600.0
    retry_for: float = 72 * 3600.0
    """After which a subscription that fails is suspended."""
    event_days: int = 14
    """For which `$events` tells of what was sent."""
    lease: float = 15.0
    """Beyond the receiver's patience, for which one process holds a subscription."""

    def patience_of(self, asked: int) -> float:
        """The seconds that a receiver has, of a subscription that asks for so many."""
        return min(float(asked), self.longest_patience) if asked else self.patience

    def pause(self, failures: int) -> int:
        """Microseconds before the next attempt after so many in a row."""
        longest = self.retry_longest
        seconds = min(self.retry_first * 2.0 ** min(failures - 1, 60), longest)
        return int(seconds * SECOND)

"""How often one client may ask, and how often an authentication may fail: token buckets.

https://www.rfc-editor.org/rfc/rfc6585#section-4. A bucket holds what may be asked at once and is
filled at the rate; it is kept for each client, and of no more clients than fit the memory. Each
server process has its own.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final

from fhir_server.errors import FhirError, Kind

_MOST: Final = 20_000
"""Clients that are remembered; who has not asked for longest is forgotten."""
_NETWORK: Final = 64
"""Bits of an IPv6 address that one customer of a network usually has to himself."""


class Buckets:
    """A bucket for each of those that ask.

    Args:
        rate: how many a second flow in.
        burst: how many one holds.
        clock: seconds.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        clock: Callable[[], float] = monotonic,
        most: int = _MOST,
    ) -> None:
        self._rate: Final = rate
        self._burst: Final = float(burst)
        self._clock: Final = clock
        self._most: Final = most
        self._left: Final[OrderedDict[str, tuple[float, float]]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one: 0.0, or the seconds until there is one to take."""
        now = self._clock()
        left = self._filled(key, now)
        taken = left >= 1.0
        self._left[key] = (left - taken, now)
        self._left.move_to_end(key)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0 if taken else self._until(left)

    def wait(self, key: str) -> float:
        """The seconds until there is one to take; nothing is taken."""
        left = self._filled(key, self._clock())
        return 0.0 if left >= 1.0 else self._until(left)

    def _filled(self, key: str, now: float) -> float:
        left, since = self._left.get(key, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate)

    def _until(self, left: float) -> float:
        return (1.0 - left) / self._rate


class Rates:
    """The bounds on one process's clients. None stands for no bound."""

    def __init__(self, requests: Buckets | None = None, failures: Buckets | None = None) -> None:
        self._requests = requests
        self._failures = failures

    def admit(self, client: str, address: str) -> None:
        """Count a request of the client, or of the address where no client is known.

        Raises:
            FhirError: THROTTLED.
        """
        seconds = self._requests.take(_asking(client, address)) if self._requests else 0.0
        if seconds:
            raise _throttled("Too many requests", seconds)

    def require_turn(self, client: str, address: str) -> None:
        """Raise where `admit` would; nothing is counted.

        Raises:
            FhirError: THROTTLED.
        """
        seconds = self._requests.wait(_asking(client, address)) if self._requests else 0.0
        if seconds:
            raise _throttled("Too many requests", seconds)

    def failed(self, address: str) -> None:
        """Count a failed authentication.

        Raises:
            FhirError: THROTTLED, in place of the failure.
        """
        seconds = self._failures.take(_network(address)) if self._failures else 0.0
        if seconds:
            raise _throttled("Too many failed authentications", seconds)

    def require_patience(self, address: str) -> None:
        """Raise where an authentication that costs much, such as a question to another server,
        is not worth it: too many of the address have failed.

        Raises:
            FhirError: THROTTLED.
        """
        seconds = self._failures.wait(_network(address)) if self._failures else 0.0
        if seconds:
            raise _throttled("Too many failed authentications", seconds)


def rates(rate: float, burst: int, failure_rate: float, failure_burst: int) -> Rates:
    """By the settings of these names; a rate of 0 is no bound."""
    return Rates(
        Buckets(rate, burst) if rate else None,
        Buckets(failure_rate, failure_burst) if failure_rate else None,
    )


def _asking(client: str, address: str) -> str:
    return f"client {client}" if client else _network(address)


def _network(address: str) -> str:
    """The address, of IPv6 its network: who has one has all addresses in it."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, _NETWORK), strict=False))


def _throttled(text: str, seconds: float) -> FhirError:
    whole = max(1, ceil(seconds))
    return FhirError(Kind.THROTTLED, f"{text}; try again in {whole} s", retry_after=whole)

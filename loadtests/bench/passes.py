"""Passes: each case on the bare server, on ours and on a peer in turn, in one run."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final
from urllib.request import urlopen

from loadtests.bench import elsewhere
from loadtests.bench.asking import Refused, Reply, tried
from loadtests.bench.cases import Case
from loadtests.bench.data import Data
from loadtests.bench.servers import Served
from loadtests.client import Make, Run, load

_HEAD: Final = b"\r\n\r\n"
_STANDS_STILL: Final = 60.0
"""Seconds beyond a pass after which a server that has not answered is left out."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is measured."""

    rounds: int = 5
    seconds: float = 1.0
    connections: int = 16
    warm: float = 0.3
    """Seconds before each pass that do not count."""


@dataclass(slots=True)
class Row:
    """What came of a case on one server; `refused` says why it was left out, or nothing."""

    case: str
    server: str
    target: float | None = None
    refused: str = ""
    runs: list[Run] = field(default_factory=list)
    of_bare: list[float] = field(default_factory=list)
    entries: int = 0
    """Resources in one answer."""
    sent: int = 0
    answered: int = 0
    """Bytes of the bodies."""
    elsewhere: float | None = None
    """Microseconds that fhir.resources takes for these bodies."""

    @property
    def rate(self) -> float:
        return median(run.rate for run in self.runs) if self.runs else 0.0

    @property
    def ratio(self) -> float:
        return median(self.of_bare) if self.of_bare else 0.0

    @property
    def failed(self) -> int:
        return sum(run.failed for run in self.runs)

    def percentile(self, percent: int) -> float:
        return median(run.percentile(percent) for run in self.runs) if self.runs else 0.0

    @property
    def of_elsewhere(self) -> float | None:
        """The rate as a multiple of what fhir.resources does of it on one core."""
        return self.rate * self.elsewhere / 1e6 if self.elsewhere and self.runs else None

    @property
    def verdict(self) -> str:
        if self.target is None or not self.of_bare:
            return ""
        return "met" if self.ratio >= self.target and not self.failed else "missed"


@dataclass(slots=True)
class _Measured:
    """A server, what it is asked, and what comes of it."""

    served: Served
    row: Row
    make: Make | None = None
    sample: bytes = b""
    """The bytes of one of the requests, which the bare server is asked with."""


class Passes:
    """The cases, one after the other.

    Args:
        bare: the base of the bare server.
        servers: ours first.
    """

    def __init__(
        self, bare: str, servers: Sequence[Served], data: Data, terms: Terms, *, token: bool
    ) -> None:
        self._bare, self._servers, self._data, self._terms = bare, servers, data, terms
        self._token = token
        self.cpu_of_generator = 0.0
        """Seconds of processor time that the load generator takes for a request of the bare
        server: what bounds it."""

    def measure(self, case: Case) -> list[Row]:
        """A row for each server; the first pair of passes warms up and does not count."""
        target = case.with_token if self._token and case.with_token else case.target
        ours, *others = self._servers
        chosen = [_Measured(ours, Row(case.name, ours.name, target))]
        if not case.ours_alone:  # a target is ours alone, too
            chosen += [_Measured(one, Row(case.name, one.name)) for one in others]
        for one in chosen:
            self._prepare(case, one, first=True)
        for number in range(self._terms.rounds):
            self._round(case, chosen if number % 2 else chosen[::-1])
        return [one.row for one in chosen]

    def _prepare(self, case: Case, one: _Measured, *, first: bool) -> None:
        """Data as they were, requests, and one of them tried."""
        row = one.row
        try:
            if case.writes and not first:
                one.served.renew()
            one.make = case.prepare(self._data, one.served.target)
            one.sample = one.make(0)
            reply = tried(one.sample, one.served.target.base, entries=case.entries)
        except Refused as refusal:
            row.refused = str(refusal)
        else:
            if first:
                _describe(row, one.sample, reply)

    def _round(self, case: Case, chosen: Sequence[_Measured]) -> None:
        for one in chosen:
            if not one.row.refused and case.writes:
                self._prepare(case, one, first=False)
            if one.row.refused or one.make is None:
                continue
            try:
                self._pass(one, one.make)
            except (OSError, EOFError, ValueError) as error:
                one.row.refused = f"broke off: {error or repr(error)}"

    def _pass(self, one: _Measured, make: Make) -> None:
        """Raises OSError, EOFError, ValueError: the connections were closed, or stood still."""
        reference = self._of_bare(one)
        base = one.served.target.base
        self._load(base, make, self._terms.warm)
        run = self._load(base, make, self._terms.seconds)
        one.row.runs.append(run)
        one.row.of_bare.append(run.rate / max(reference.rate, 1e-9))

    def _of_bare(self, one: _Measured) -> Run:
        urlopen(f"{self._bare}/size?{one.row.answered}").close()  # noqa: S310 - a loopback address
        before = time.process_time()
        run = self._load(self._bare, lambda _: one.sample, self._terms.seconds)
        self.cpu_of_generator = (time.process_time() - before) / max(1, len(run.times))
        return run

    def _load(self, base: str, make: Make, seconds: float) -> Run:
        return asyncio.run(self._loaded(base, make, seconds))

    async def _loaded(self, base: str, make: Make, seconds: float) -> Run:
        try:
            async with asyncio.timeout(seconds + _STANDS_STILL):
                return await load(base, make, connections=self._terms.connections, seconds=seconds)
        except TimeoutError:
            raise TimeoutError(f"no end {_STANDS_STILL:g} s after the pass was over") from None


def _describe(row: Row, sent: bytes, reply: Reply) -> None:
    body = sent.partition(_HEAD)[2]
    row.entries, row.sent, row.answered = reply.entries, len(body), len(reply.body)
    row.elsewhere = elsewhere.cost(body, reply.body)

"""`keyworking demo`: a year in a young person's life, played in two minutes.

Everybody asks the server over HTTP with their own token; the clock is moved on from day to day.
"""

import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fhir_server.demo.casting import require_caseload
from fhir_server.demo.conversation import CannotPlay
from fhir_server.demo.year import beginning, ending
from fhir_server.demo.year.cast import PROMPTER
from fhir_server.demo.year.programme import CHAPTERS, Chapter
from fhir_server.demo.year.receiver import Receiver, receiving
from fhir_server.demo.year.record import Family
from fhir_server.demo.year.stage import A_YEAR, first_day
from fhir_server.demo.year.telling import Teller, console
from fhir_server.demo.year.theatre import House, own_server, their_server
from fhir_server.demo.year.year import Year
from fhir_server.fhir.dates import LOCAL

__all__ = ["CHAPTERS", "PACE", "Staging", "family_of", "finish", "perform", "play"]

PACE: Final = 1.2
"""Seconds after each step, with which the year takes two minutes."""
_SERIAL: Final = 2020
"""Of the NHS number, on a server of the demo's own."""
_SERIALS: Final = 800_000
_NO_CLOCK: Final = (
    "A year has to pass, and the server at {server} goes by a clock that the demo cannot move. "
    "Start it with `--auth none --synthetic-caseload` and KEYWORKING_MOVABLE_CLOCK=clock.txt, and "
    "the demo with `--clock clock.txt`. Without --server, the demo starts a server of its own; "
    "`keyworking demo --admission` plays a story in which no time has to pass."
)


@dataclass(frozen=True, slots=True)
class Staging:
    """Where the year is played, how fast, and where the papers of it go."""

    folder: Path
    pace: float = 0.0
    """Seconds after each step."""
    server: str = ""
    """The FHIR base of a server that runs; one of the demo's own where it is empty."""
    clock: Path | None = None
    """The file by which that server's clock is moved."""


def play(staging: Staging) -> None:
    """The whole year, told to the terminal.

    Raises:
        CannotPlay: there is no server, or none whose clock can be moved.
        NotAsTold: a step did not come out as the story says.
    """
    if staging.server and staging.clock is None:
        raise CannotPlay(_NO_CLOCK.format(server=staging.server))
    signal.signal(signal.SIGTERM, _end_in_order)
    teller = Teller(console())
    teller.title("A year with a keyworker")
    teller.say(
        "Skye is invented, as everybody here is. What follows is asked of a real server, by each "
        "person with what they may see and do. 'server' is what it did by itself, 'told' who got "
        "a notice at that moment, 'refused' what it said no to. A table is what each partner sees "
        "when they ask; '-' is nothing at all, as if Skye were not there."
    )
    with receiving() as receiver, _house(staging, receiver) as house:
        year = Year(house, teller, family_of(house), receiver, lambda: time.sleep(staging.pace))
        try:
            perform(year, CHAPTERS)
            finish(year, staging.folder)
        finally:
            year.close()


def _end_in_order(*_: object) -> None:
    """Whoever is told to end stops the server first, as with Ctrl-C."""
    sys.exit(128 + signal.SIGTERM)


def _house(staging: Staging, receiver: Receiver) -> AbstractContextManager[House]:
    if staging.server and staging.clock is not None:
        return their_server(staging.server, staging.clock)
    return own_server(receiver.origin)


def family_of(house: House) -> Family:
    """The year begins next Monday; on a server that runs, nobody was there before."""
    today = datetime.fromtimestamp(house.clock() / 1_000_000, LOCAL).date()
    serial = _SERIAL if house.tokens else 1000 + secrets.randbelow(_SERIALS)
    return Family(serial, first_day(today))


def perform(year: Year, chapters: Sequence[Chapter]) -> None:
    """The chapters, from the beginning on."""
    if year.house.tokens is None:
        require_caseload(year.ask(PROMPTER))
    beginning.meet(year)
    for chapter in chapters:
        year.teller.title(f"Month {chapter.month}: {chapter.title}")
        year.teller.say(chapter.why)
        chapter.play(year)
        year.pace()


def finish(year: Year, folder: Path) -> None:
    """What is left of the year when it is over; `folder` is for what is saved."""
    year.go_on(A_YEAR.days)
    year.teller.title("Skye's plan, in plain words")
    ending.plain_words(year, folder)
    year.teller.title("Skye's year, in a few lines")
    ending.timeline(year)
    year.teller.title("The steering group's report")
    ending.steering_group(year, folder)
    ending.sum_up(year)

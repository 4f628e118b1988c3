"""The server of the demo, in a process of its own: `python -m fhir_server.demo.year.stage FOLDER`.

On loopback, over a store of its own with the synthetic caseload, for whoever shows a token of the
demo. A second door of the same server, the stage door, asks for no tokens: by it the demo sets the
scene and looks what the server did. Both are there as long as the standard input is open: however
the demo ends, they end too.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import uvicorn

from fhir_server import logs
from fhir_server.app import create_app
from fhir_server.fhir.dates import LOCAL
from fhir_server.http.wire import Protocol
from fhir_server.settings import Settings
from fhir_server.synthetic import ensure_loaded

ISSUER: Final = "https://tokens.demo.keyworking.example"
SIGNATORIES: Final = ("ZZK02=health", "ZZK05=social-care", "ZZK06=health")
WARDS: Final = ("ZZK03",)


_YOUNG_PEOPLE: Final = 45
"""So many that most numbers of the report may be shown."""
A_YEAR: Final = timedelta(days=364)


def first_day(today: date) -> date:
    """Of the year that is played: the next Monday."""
    return today + timedelta(days=7 - today.weekday())


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server's things are: all of them in one folder."""

    folder: Path

    @property
    def clock(self) -> Path:
        return self.folder / "clock.txt"

    @property
    def keys(self) -> Path:
        """The public half of what the demo signs tokens with."""
        return self.folder / "keys.json"

    @property
    def log(self) -> Path:
        """What the server complains of."""
        return self.folder / "server.log"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'demo.db'}"


class StageSettings(Settings):
    """With tokens and a clock that moves: here nobody is kept out by either.

    The tokens are the demo's, good for a moment, and the people are invented.
    """

    def require_clock(self, auth: str | None) -> None:
        """It may be moved."""


def front_door(place: Place, port: int, told: str) -> Settings:
    """`told` is the origin of whoever is told of what happens."""
    return StageSettings(
        auth="token",
        port=port,
        store=place.store,
        movable_clock=place.clock,
        issuer=ISSUER,
        jwks=str(place.keys),
        authorisation_server=False,
        inpatient_units=WARDS,
        register_signatories=SIGNATORIES,
        notices_to=(told,),
        token_outlived=2 * 366 * 24 * 3600,  # nobody writes a subscription anew in a demo
        notice_every=0.2,
        notice_retry_first=0.5,
        publish=False,
    )


def stage_door(place: Place, port: int) -> Settings:
    """It does nothing by itself: the front does."""
    return Settings(
        auth="none",
        port=port,
        store=place.store,
        movable_clock=place.clock,
        scheduler=False,
        job_concurrency=0,
        notice_concurrency=0,
        audit="off",
        publish=False,
    )


def main(folder: str, port: str, stage_port: str, told: str) -> None:
    """Serve until nobody holds the other end of the standard input."""
    doors: list[uvicorn.Server] = []
    threading.Thread(target=_stop_at_the_end, args=(doors,), daemon=True).start()
    place = Place(Path(folder))
    front = front_door(place, int(port), told)
    # The others of the area as they are when the year is over, and the report is made.
    today = datetime.now(UTC).astimezone(LOCAL).date()
    ensure_loaded(front, first_day(today) + A_YEAR, _YOUNG_PEOPLE)
    doors += [_door(settings) for settings in (front, stage_door(place, int(stage_port)))]
    asyncio.run(_serve(doors))


async def _serve(doors: Sequence[uvicorn.Server]) -> None:
    await asyncio.gather(*(door.serve() for door in doors))


def _door(settings: Settings) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            create_app(settings),
            host=settings.host,
            port=settings.port,
            http=Protocol,
            log_config=logs.configuration(settings.log_format, requests=False),
            access_log=False,
            timeout_graceful_shutdown=2,
        )
    )


def _stop_at_the_end(doors: Sequence[uvicorn.Server]) -> None:
    sys.stdin.buffer.read()
    if not doors:
        os._exit(0)  # the store is half loaded, and goes with its folder
    for door in doors:
        door.should_exit = True


def written(keys: Path, public: dict[str, str]) -> None:
    """The key set that the server verifies tokens with."""
    keys.write_bytes(msgspec.json.encode({"keys": [public]}))


if __name__ == "__main__":
    main(*sys.argv[1:])

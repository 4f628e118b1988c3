"""`keyworking region`: a synthetic region of any size."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from fhir_server.region import Asked
    from fhir_server.region_making import Made

_SHOWN: Final = 10
"""Refusals that are printed; more say no more."""


def _sized(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what is to be made."""
    options = (
        click.option("--boards", type=int, default=1, show_default=True, help="1 to 42 boards."),
        click.option("--register", type=int, default=400, show_default=True, help="Of each board."),
        click.option(
            "--population", type=int, default=1_800_000, show_default=True, help="Of each area."
        ),
        click.option(
            "--seed", type=int, default=1, show_default=True, help="What all is drawn by."
        ),
        click.option(
            "--as-of",
            type=click.DateTime(["%Y-%m-%d"]),
            help="The day that is today, if not today.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class _Places:
    """Where to: one of the three."""

    folder: Path | None
    store: str | None
    server: str | None
    concurrency: int
    token: str

    def take(self, asked: "Asked") -> "Made":
        """Raises CannotMake."""
        from fhir_server import region_making as making

        if self.folder is not None:
            return making.to_folder(asked, self.folder)
        if self.server is not None:
            return making.to_server(asked, self.server, self.token, self.concurrency)
        return making.to_store(asked, self.store)


@click.command()
@_sized
@click.option("--to", "folder", type=click.Path(path_type=Path), help="A folder, for NDJSON files.")
@click.option("--store", help="sqlite:///./var/keyworking.db or the like.")
@click.option("--server", help="Base address of a running FHIR server.")
@click.option("--concurrency", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--token-file", type=click.File(), help="File with a token for the server; - is standard input."
)
def region(
    boards: int,
    register: int,
    population: int,
    seed: int,
    as_of: datetime | None,
    token_file: TextIO | None,
    **places: Any,
) -> None:
    """Make a synthetic region, into files, a store or a server.

    At the end it says what was made beside what was asked for. Exit status: 1 when something was
    refused, 2 when it cannot be made at all.
    """
    from fhir_server.region import Asked, BadRegion
    from fhir_server.region_making import CannotMake

    chosen = _Places(**places, token=token_file.read().strip() if token_file else "")
    if sum(place is not None for place in (chosen.folder, chosen.store, chosen.server)) != 1:
        raise click.UsageError("Say where to: --to FOLDER, --store STORE or --server URL")
    try:
        day = (as_of or datetime.now(UTC)).date()
        made = chosen.take(Asked(boards, register, population, seed, day))
    except (BadRegion, CannotMake) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    _tell(made)
    sys.exit(1 if made.refused else 0)


def _tell(made: "Made") -> None:
    for line in made.tally.lines():
        click.echo(line)
    if made.skipped:
        click.echo(f"There already: {made.skipped} transactions")
    if made.refused:
        click.echo(f"Refused: {len(made.refused)} transactions")
    for reason in made.refused[:_SHOWN]:
        click.echo(f"  {reason}")

"""`keyworking region`: a synthetic region of any size."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

if TYPE_CHECKING:
    from fhir_server.region_making import Made

_SHOWN: Final = 10
"""Refusals that are printed; more say no more."""


@click.command()
@click.option("--boards", type=int, default=1, show_default=True, help="1 to 42 care boards.")
@click.option("--register", type=int, default=400, show_default=True, help="Young people of each.")
@click.option("--population", type=int, default=1_800_000, show_default=True, help="Of each area.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same gives the same.")
@click.option(
    "--as-of", type=click.DateTime(["%Y-%m-%d"]), help="The day that is today; today without it."
)
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
    folder: Path | None,
    store: str | None,
    server: str | None,
    concurrency: int,
    token_file: TextIO | None,
) -> None:
    """Make a synthetic region, into files, a store or a server.

    At the end it says what was made beside what was asked for. Exit status: 1 when something was
    refused, 2 when it cannot be made at all.
    """
    from fhir_server import region_making as making
    from fhir_server.region import Asked, BadRegion

    if sum(place is not None for place in (folder, store, server)) != 1:
        raise click.UsageError("Say where to: --to FOLDER, --store STORE or --server URL")
    day = (as_of or datetime.now(UTC)).date()
    try:
        asked = Asked(boards, register, population, seed, day)
        if folder is not None:
            made = making.to_folder(asked, folder)
        elif server is not None:
            token = token_file.read().strip() if token_file else ""
            made = making.to_server(asked, server, token, concurrency)
        else:
            made = making.to_store(asked, store)
    except (BadRegion, making.CannotMake) as error:
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

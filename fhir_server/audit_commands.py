"""`keyworking audit verify | export`, as the command line has them."""

import sys
from pathlib import Path
from typing import NoReturn

import click

_STORE = click.option("--store", help="The store; by default that of the settings.")

_FILE = click.Path(path_type=Path)


@click.group()
def audit() -> None:
    """Verify and export the audit of a store; servers go on meanwhile."""


@audit.command()
@_STORE
@click.option("--anchor", help="A place of the chain that an earlier run has printed.")
@click.option("--sign", type=_FILE, help="A private key, which signs the anchor that is printed.")
@click.option("--key", type=_FILE, help="A key set: the --anchor is one that a key of it signed.")
def verify(store: str | None, anchor: str | None, sign: Path | None, key: Path | None) -> None:
    """Go through the chain of hashes: say the first row that is missing, changed or elsewhere.

    Keep the anchor that is printed apart from the store: a chain that was made anew as a whole
    shows by it alone. Exit status: 1 when the chain is broken, 2 when it could not be read.
    """
    from fhir_server.auditing import CannotAudit, Signing, verify

    try:
        whole = verify(store, anchor, say=click.echo, signing=Signing(sign, key))
    except CannotAudit as error:
        _fail(str(error))
    sys.exit(0 if whole else 1)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path))
@_STORE
@click.option("--format", "form", type=click.Choice(["ndjson", "csv"]), default="ndjson")
@click.option("--from", "since", help="A date or time: rows made then or later.")
@click.option("--to", "until", help="A date or time: rows made before.")
def export(file: Path, store: str | None, form: str, since: str | None, until: str | None) -> None:
    """Write rows of the audit to the new FILE, as AuditEvents (ndjson) or as a table (csv).

    That they were exported is a row of the audit. Exit status: 2 when there is no whole file.
    """
    from fhir_server.auditing import CannotAudit, export

    try:
        export(store, file, form=form, since=since, until=until, say=click.echo)
    except CannotAudit as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(2)

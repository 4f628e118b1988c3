"""The command line: `keyworking serve | load | load-terminology | load-package | import | reindex |
reconcile | backup | restore | check | prune | audit | validate | package | demo | openapi |
version`, and `client | key | token` of the built-in authorisation server.
"""

import re
import sys
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from fhir_server.audit_commands import audit
from fhir_server.region_commands import region
from fhir_server.registration_commands import client, key, token
from fhir_server.story import DEFAULT_SERVER


@click.group()
def main() -> None:
    """A FHIR R4 server for the NHS keyworking service."""


for _command in (audit, client, key, region, token):
    main.add_command(_command)


def _read_token(_context: object, _option: object, file: TextIO | None) -> str:
    """A token in the words of a command would stand in the list of processes."""
    return "" if file is None else file.read().strip()


_TOKEN = click.option(
    "--token-file",
    "shown",
    type=click.File(),
    callback=_read_token,
    help="File with a token to show to the server; - is standard input.",
)


@main.command()
@click.option("--host", help="Address to listen on.", show_envvar=True)
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--store", help="sqlite:///./var/keyworking.db, mongodb://host/database or the like.")
@click.option("--workers", type=int, help="Server processes.")
@click.option("--auth", type=click.Choice(["none", "token"]), help="none: loopback only.")
@click.option("--synthetic-caseload", is_flag=True, help="Load 30 synthetic young people, once.")
def serve(synthetic_caseload: bool, **options: object) -> None:
    """Serve FHIR R4 until interrupted."""
    from fhir_server.serving import BadSettings, serve

    try:
        serve(
            {name: value for name, value in options.items() if value is not None},
            synthetic_caseload=synthetic_caseload,
        )
    except BadSettings as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option("--server", default="", help="A server that runs; else the demo starts its own.")
@click.option("--clock", type=click.Path(path_type=Path), help="Its KEYWORKING_MOVABLE_CLOCK.")
@click.option("--pace", "--pause", type=click.FloatRange(0), help="Seconds after each step.")
@click.option("--fast", is_flag=True, help="As --pace 0.")
@click.option(
    "--output",
    default=Path("var/demo"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the plan in plain words and the report.",
)
@click.option("--admission", is_flag=True, help="An admission alone, at a server that runs.")
@click.option("--full", is_flag=True, help="With --admission: the whole JSON of each request.")
@click.option("--yes", is_flag=True, help="Ask nothing: neither for Enter nor for consent.")
def demo(server: str, pace: float | None, *, fast: bool, yes: bool, **options: Any) -> None:
    """Play a year in a young person's life, in about two minutes.

    Exit status: 1 when a step does not come out as told, 2 when there is no server to play at, or
    none whose clock can be moved.
    """
    from fhir_server.demo import CannotPlay, NotAsTold, is_loopback

    somebody_is_there = sys.stdin.isatty() and sys.stdout.isatty()
    if server and not (yes or is_loopback(server)):
        if not somebody_is_there:
            raise click.UsageError(f"{server} is not this machine; --yes lets the demo write there")
        click.confirm(f"The demo writes to {server}. Go on?", abort=True)
    seconds = 0.0 if fast else pace
    try:
        if options.pop("admission"):
            _admission(server, seconds, ask=somebody_is_there and not yes, full=options["full"])
        else:
            _year(server, seconds, **options)
    except CannotPlay as error:
        _fail(str(error), status=2)
    except NotAsTold as error:
        _fail(f"The story broke off: {error}", status=1)


def _admission(server: str, pace: float | None, *, ask: bool, full: bool) -> None:
    from fhir_server.demo import play, waiting

    play(server or DEFAULT_SERVER, full=full, wait=waiting(pace, ask=ask))


def _year(server: str, pace: float | None, *, clock: Path | None, output: Path, full: bool) -> None:
    from fhir_server.demo.year import PACE, Staging, play

    if full:
        raise click.UsageError("--full is for --admission")
    if clock is not None and not server:
        raise click.UsageError("--clock is for --server: the demo's own server has its own clock")
    play(Staging(output, PACE if pace is None else pace, server, clock))


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    help="Base address of the running FHIR server.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Requests under way at a time.",
)
@_TOKEN
def load(paths: tuple[Path, ...], server: str, concurrency: int, shown: str) -> None:
    """Send files of FHIR JSON, ndjson and whole folders of them to a running server.

    Exit status: 1 when something was refused, 2 when there is nothing to load or no server.
    """
    from fhir_server.loading import CannotLoad, load

    try:
        report = load(paths, server, concurrency, shown)
    except CannotLoad as error:
        _fail(str(error), status=2)
    for line in report.lines():
        click.echo(line)
    sys.exit(1 if report.refusals else 0)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=2575, show_default=True)
@click.option("--server", default=DEFAULT_SERVER, show_default=True, help="Base address.")
@click.option(
    "--sender",
    "senders",
    multiple=True,
    required=True,
    metavar="FACILITY=ODS",
    help="A sending facility (MSH-4) that may send, and its ODS code.",
)
@click.option("--certificate", type=click.Path(exists=True, path_type=Path), help="PEM, for TLS.")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="PEM, for TLS.")
@click.option(
    "--client-ca",
    type=click.Path(exists=True, path_type=Path),
    help="PEM: senders show a certificate that one of these has signed.",
)
@_TOKEN
def mllp(senders: tuple[str, ...], server: str, shown: str, **options: Any) -> None:
    """Take HL7 v2 messages over MLLP for a running server, until interrupted."""
    from fhir_server.mllp import CannotListen, Listening, listen

    pairs = dict(one.partition("=")[::2] for one in senders)
    if not all(name and code for name, code in pairs.items()):
        _fail("--sender is FACILITY=ODS, such as WARD1=ZZK03", status=2)
    try:
        listen(Listening(server, pairs, shown, **options), say=click.echo)
    except CannotListen as error:
        _fail(str(error), status=2)


@main.command("load-terminology")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--system", required=True, help="Canonical address of the code system.")
@click.option("--version", required=True, help="Its version.")
@click.option("--id", "name", required=True, help="What the ids of its resources begin with.")
@click.option("--complete", is_flag=True, help="The file, or the part, counts as all codes.")
@click.option("--below", multiple=True, help="Of RF2: this concept and all below it.")
@click.option("--refset", multiple=True, help="Of RF2: the concepts of this reference set.")
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    help="Base address of the running FHIR server.",
)
@_TOKEN
def load_terminology(
    path: Path,
    system: str,
    version: str,
    name: str,
    complete: bool,
    below: tuple[str, ...],
    refset: tuple[str, ...],
    server: str,
    shown: str,
) -> None:
    """Send a licensed code system: a CSV file (code, display, parent), or a folder of RF2.

    Of RF2, --below and --refset choose a part; each may be given several times.
    Exit status: 1 when something was refused, 2 when there is nothing to load or no server.
    """
    from fhir_server.loading import CannotLoad
    from fhir_server.terminology_files import Named, Part, load_terminology

    if not re.fullmatch(r"[A-Za-z0-9.-]{1,30}", name):
        raise click.UsageError(f"--id '{name}' is not 1 to 30 letters, digits, '-' and '.'")
    try:
        named, part = Named(system, version, name, complete), Part(below, refset)
        report, memory = load_terminology(path, named, server, part, shown)
    except CannotLoad as error:
        _fail(str(error), status=2)
    for line in report.lines():
        click.echo(line)
    click.echo(
        f"A server keeps it in memory where KEYWORKING_TERMINOLOGY_MEMORY is {memory} or more; "
        "else each question reads it anew"
    )
    sys.exit(1 if report.refusals else 0)


@main.command("load-package")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--server", help="Base address of a running FHIR server that it is sent to.")
@_TOKEN
def load_package(path: Path, server: str | None, shown: str) -> None:
    """Verify a FHIR package (.tgz) and put it into the folder of KEYWORKING_PACKAGES.

    Servers check by it from their next start on. With --server, its profiles and terminology are
    sent to a running server as resources instead. Exit status: 1 when a part of it was refused or
    cannot be used, 2 when nothing was loaded.
    """
    from fhir_server.loading import CannotLoad
    from fhir_server.package_files import place, send, verified
    from fhir_server.settings import read_settings

    try:
        packages = read_settings({}).packages
        found = verified(path, packages)
        report, left_out = send(found, server, shown) if server else (None, {})
        target = None if server else place(path, found.package, packages)
    except (CannotLoad, ValueError) as error:
        _fail(str(error), status=2)
    for line in (*found.lines(), *(report.lines() if report else ())):
        click.echo(line)
    if left_out:
        click.echo("Not sent: " + ", ".join(f"{n} {kind}" for kind, n in left_out.items()))
    if target:
        click.echo(f"{target}: servers check by it from their next start on")
    sys.exit(1 if found.problems or (report and report.refusals) else 0)


@main.command("import")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--server",
    default=DEFAULT_SERVER,
    show_default=True,
    help="Base address of the running FHIR server.",
)
@_TOKEN
def import_(paths: tuple[Path, ...], server: str, shown: str) -> None:
    """Send whole files of ndjson, gzipped or not, to a running server's $import.

    The server stores them in the background; Ctrl-C cancels what is not stored yet.
    Exit status: 1 when a line was refused, 2 when a file was, or there is no server.
    """
    from fhir_server.importing import import_files
    from fhir_server.loading import CannotLoad

    try:
        imported = import_files(paths, server, shown)
    except CannotLoad as error:
        _fail(str(error), status=2)
    for line in imported.lines():
        click.echo(line)
    sys.exit(1 if imported.counts["refused"] else 0)


@main.command()
@click.option("--store", help="sqlite:///./var/keyworking.db or the like.")
@click.option("--all", "whole", is_flag=True, help="Make every entry of the index anew.")
def reindex(store: str | None, whole: bool) -> None:
    """Make search parameters searchable that were added since; servers go on meanwhile.

    Interrupted, it goes on where it was when it is run again. Exit status: 1 when the store
    cannot be read or written.
    """
    from fhir_server.reindexing import CannotReindex, reindex

    try:
        reindex(store, whole=whole, say=click.echo)
    except CannotReindex as error:
        _fail(str(error), status=1)


@main.command()
@click.option("--store", help="sqlite:///./var/keyworking.db or the like.")
@click.option("--all", "whole", is_flag=True, help="Also those who have been looked at.")
def reconcile(store: str | None, whole: bool) -> None:
    """Have the service's rules look at young people at whom they have not looked yet.

    Such as those of a store from before there were rules; after settings of the pathway have
    changed, --all. The server does it, piece by piece. Exit status: 1 when the store cannot be
    read or written.
    """
    from fhir_server.reconciling import CannotReconcile, reconcile

    try:
        click.echo(f"To be looked at: {reconcile(store, whole=whole)}")
    except CannotReconcile as error:
        _fail(str(error), status=1)


_STORE = click.option("--store", help="sqlite:///./var/keyworking.db or the like.")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_STORE
def backup(file: Path, store: str | None) -> None:
    """Copy a SQLite store, as it is at this moment, to FILE; servers go on meanwhile.

    The copy is read back before it gets its name. Exit status: 1 when there is no backup.
    """
    from fhir_server.maintenance import CannotMaintain, back_up

    try:
        back_up(store, file, say=click.echo)
    except CannotMaintain as error:
        _fail(str(error), status=1)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_STORE
@click.option("--replace", is_flag=True, help="Write over the store that is there.")
def restore(file: Path, store: str | None, replace: bool) -> None:
    """Make a SQLite store of the backup FILE, which is verified first.

    A store is written over with --replace alone, and never while a server has it open. Exit
    status: 1 when nothing was restored; what was there before is there still.
    """
    from fhir_server.maintenance import CannotMaintain, restore

    try:
        restore(store, file, replace=replace, say=click.echo)
    except CannotMaintain as error:
        _fail(str(error), status=1)


@main.command()
@_STORE
@click.option("--repair", is_flag=True, help="Mend what can be rebuilt.")
def check(store: str | None, repair: bool) -> None:
    """Look whether all in a store is there, readable and rightly indexed; servers go on.

    In a MongoDB store nothing is mended; reindex --all makes its index anew.

    Exit status: 1 when there are faults that are not mended, 2 when it could not be looked at.
    """
    from fhir_server.maintenance import CannotMaintain, check

    try:
        sound = check(store, repair=repair, say=click.echo)
    except CannotMaintain as error:
        _fail(str(error), status=2)
    sys.exit(0 if sound else 1)


@main.command()
@_STORE
@click.option("--dry-run", is_flag=True, help="Say what would be taken out.")
def prune(store: str | None, dry_run: bool) -> None:
    """Take older versions and audit rows out of a SQLite store, as KEYWORKING_KEEP_… says.

    Servers go on meanwhile. Exit status: 1 when it could not be done, or not to the end.
    """
    from fhir_server.maintenance import CannotMaintain, prune_store

    try:
        prune_store(store, dry=dry_run, say=click.echo)
    except CannotMaintain as error:
        _fail(str(error), status=1)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--profile", "profiles", multiple=True, help="One that each resource has to fit, too."
)
@click.option("--strict", is_flag=True, help="A warning counts as an error.")
@click.option("--json", "as_json", is_flag=True, help="One OperationOutcome a line.")
def validate(
    paths: tuple[Path, ...], profiles: tuple[str, ...], strict: bool, as_json: bool
) -> None:
    """Check files of FHIR JSON, XML and ndjson, and whole folders of them, as a server would.

    Exit status: 1 when something is wrong, 2 when there is nothing to check.
    """
    from fhir_server.checking import checker as checker_of
    from fhir_server.checking import terminology
    from fhir_server.fhir import json
    from fhir_server.settings import Settings
    from fhir_server.validating import CannotValidate, files, require_known, summary
    from fhir_server.validating import validate as validated

    try:
        settings = Settings()
        checker = checker_of(settings)
    except ValueError as error:
        _fail(str(error), status=2)
    try:
        found = files(paths)
        require_known(checker, profiles)
    except CannotValidate as error:
        _fail(str(error), status=2)
    results = []
    for one in validated(found, checker, profiles, lambda: terminology(settings)):
        results.append(one)
        for line in [json.encode(one.outcome).decode()] if as_json else one.lines():
            click.echo(line)
    if not as_json:
        click.echo(summary(results))
    wrong = ("error", "warning") if strict else ("error",)
    sys.exit(1 if any(one.worst in wrong for one in results) else 0)


def _fail(text: str, *, status: int) -> NoReturn:
    click.echo(f"Error: {text}", err=True)
    sys.exit(status)


@main.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write; by default named after the release, here.",
)
def package(output: Path | None) -> None:
    """Write the project's profiles, terminology and examples as a FHIR package.

    Other servers and validators load it. Exit status: 1 when it could not be written.
    """
    from fhir_server.packaging import CannotPackage, write

    try:
        path, count = write(output)
    except CannotPackage as error:
        _fail(str(error), status=1)
    click.echo(f"{path}: {count} resources")


@main.command()
def openapi() -> None:
    """Print the OpenAPI description of the server that the settings make."""
    from fhir_server.describing import printed_description
    from fhir_server.operation.registry import BadOperation

    try:
        click.echo(printed_description())
    except (ValueError, BadOperation) as error:
        _fail(str(error), status=1)


@main.command()
def version() -> None:
    """Say which release this is."""
    click.echo(f"keyworking FHIR server {package_version('keyworking-fhir-server')}, FHIR 4.0.1")


if __name__ == "__main__":
    main()

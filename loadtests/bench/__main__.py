"""`make bench`: what this server does, as a share of a bare one in the same run.

`python -m loadtests.bench --help` has the options; docs/performance.md says how it is measured.
"""

import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from loadtests import access, checking
from loadtests.bench import bulk, data, growth, report, writes
from loadtests.bench.asking import Refused, Target
from loadtests.bench.cases import CASES, Case
from loadtests.bench.passes import Passes, Row, Terms
from loadtests.bench.servers import Options, Ours, Peer, Served, bare, ours

_RESULTS: Final = Path("bench-results")
_LOADED: Final = 1000
"""Resources that are loaded over HTTP to measure that."""


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Passes of each case.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of a pass.")
@click.option("--connections", default=16, show_default=True)
@click.option("--resources", default=10_000, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--token", is_flag=True, help="With tokens, policy and audit.")
@click.option("--store", default="", help="Address of an empty MongoDB database.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keeps the SQLite file there.")
@click.option("--only", default="", help="What the names of the cases have in them.")
@click.option("--quick", is_flag=True, help="Small and short: to see that it works.")
@click.option("--peer", default="", help="FHIR base of another server, beside ours.")
@click.option("--peer-token", default="", help="Bearer token for it.")
@click.option("--growth", "grows", is_flag=True, help="How cost grows, in place of the table.")
@click.option("--results", default=_RESULTS, show_default=True, type=click.Path(path_type=Path))
def main(**told: Any) -> None:
    """Measure the cases of the table, and what belongs to them."""
    if told["quick"]:
        told |= {"rounds": 2, "seconds": 0.2, "resources": min(told["resources"], 1000)}
    terms = Terms(told["rounds"], told["seconds"], told["connections"], told["seconds"] / 4)
    options = Options(
        told["resources"], told["workers"], told["token"], told["store"], told["folder"]
    )
    if told["grows"]:
        growth.measured(options, terms, told["results"], told["only"])
        return
    if not _chosen(told["only"]):
        names = ", ".join(case.name for case in CASES)
        raise click.UsageError(f"No case has '{told['only']}' in its name: {names}")
    peer = Target(told["peer"].rstrip("/"), told["peer_token"]) if told["peer"] else None
    figures: dict[str, Any] = {"options": str(options), "terms": asdict(terms)}
    with report.printed() as text:
        try:
            _table(options, terms, told["only"], peer, figures)
            if not told["only"] and not told["quick"] and peer is None:
                checking.report()
                access.report(blocks=5)
        finally:  # what came before it broke off, or was interrupted, is kept
            path = report.save(told["results"], "bench", {**figures, "printed": text.getvalue()})
    click.echo(path)


def _chosen(only: str) -> list[Case]:
    return [case for case in CASES if only.lower() in case.name.lower()]


def _table(
    options: Options, terms: Terms, only: str, peer: Target | None, figures: dict[str, Any]
) -> None:
    click.echo(report.described(terms, options))
    cases = _chosen(only)
    click.echo(report.expected(terms, options.resources, cases, 2 if peer else 1))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        server = running.enter_context(ours(options, Path(folder)))
        figures |= _beginning(server)
        servers: list[Served] = [server, *([_loaded(peer, options.resources)] if peer else [])]
        passes = Passes(
            running.enter_context(bare()), servers, server.data, terms, token=options.token
        )
        rows = _rows(passes, cases, len(servers), figures)
        for line in report.compared(rows):
            click.echo(line)
        if passes.cpu_of_generator:
            most = 1 / passes.cpu_of_generator
            click.echo(f"the load generator itself: at most about {most:.0f} requests a second")
        figures["megabytes_after"] = server.megabytes()
        click.echo(f"memory after the cases: {_memory(figures['megabytes_after'], options)}")
        if not only:
            figures["bulk"] = bulk.figures(_beside(server, servers, Path(folder), terms))
    click.echo(report.tally([row for row in rows if row.server == server.name]))


def _beginning(server: Ours) -> dict[str, float]:
    """How long a start takes, the store being there, and the memory after it."""
    server.stop()
    found = {"seconds_to_start": server.start(), "megabytes_at_start": server.megabytes()}
    seconds, megabytes = found.values()
    click.echo(f"start to first answer: {seconds:.2f} s, {_memory(megabytes, server.options)}")
    return found


def _memory(megabytes: float, options: Options) -> str:
    """Of all processes: several have one besides that starts them."""
    each = f" in {options.workers + 1} processes" if options.workers > 1 else ""
    return f"{megabytes:.0f} MB{each}"


def _loaded(target: Target, resources: int) -> Peer:
    done = data.load(target, resources)
    click.echo(f"peer: {done.resources} resources taken, {len(done.refused)} refused")
    for said in done.refused[:5]:
        click.echo(f"  {said}")
    return Peer(target)


def _rows(
    passes: Passes, cases: Iterable[Case], servers: int, figures: dict[str, Any]
) -> list[Row]:
    rows: list[Row] = []
    click.echo(report.heading())
    for case in cases:
        measured = passes.measure(case)
        for row in measured:
            click.echo(report.line(row, servers=servers))
        rows += measured
        figures["rows"] = report.figures(rows)
    return rows


def _beside(server: Ours, servers: list[Served], place: Path, terms: Terms) -> list[bulk.Bulk]:
    """What is no case of the table."""
    server.renew()
    rows = [bulk.export(one.target, f"export, {one.name}") for one in servers]
    _told("load", lambda: rows.append(bulk.loading(server.options, place / "load", _LOADED)))
    for row in rows:
        click.echo(str(row))
    _told("durable creates", lambda: click.echo("\n".join(writes.told(server, terms))))
    return rows


def _told(what: str, measure: Callable[[], object]) -> None:
    """What cannot be measured is left out, and the rest goes on."""
    try:
        measure()
    except (Refused, OSError, EOFError, ValueError, click.ClickException) as error:
        click.echo(f"{what}: left out: {error}")


if __name__ == "__main__":
    main()

"""`make load`: a region's working day against a server, and a report of what came of it.

Without `--server` it makes a region, registers clients, and runs the steps against a server of its
own with one worker, then with two. With it, the same steps against any FHIR server with SMART
Backend Services that has the region; scenarios that this cannot answer are left out.

Exit status: 0 when all thresholds are met, 1 when one is missed, 2 when it could not be run.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from fhir_server.region import Asked, BadRegion
from loadtests import figures, foreign, report, runs, serving, thresholds
from loadtests import plan as plans
from loadtests.people import inpatient_units
from loadtests.plan import VARIABLE, Client, Plan, Step
from loadtests.report import Told
from loadtests.runs import NothingMeasured, Run
from loadtests.samples import LOAD, MACHINE, SERVER
from loadtests.scenarios import ALL
from loadtests.serving import CannotRun
from loadtests.watching import machine, receiving, used, watching

_LOCUSTFILE: Final = Path(__file__).with_name("locustfile.py")
_ROOT: Final = Path(__file__).parents[1]
_GRACE: Final = 120
"""Seconds that a run may take beyond its steps."""
_CANNOT: Final = 2
_NOT_THE_SERVER: Final = "that is where the report was written, and nothing is known of the server"


def _numbers(_context: object, _option: object, given: str) -> list[int]:
    found = [int(one) for one in given.split(",") if one.strip().isdigit()]
    if not found or len(found) != given.count(",") + 1 or min(found) < 1:
        raise click.BadParameter("numbers with commas between them, such as 5,20,40")
    return found


_SPAN: Final = click.FloatRange(0.1, 3600)
"""Of seconds that an option may say."""


@dataclass(frozen=True, slots=True)
class Options:
    """All that a run may be told, in one place: these are the defaults of `make load`."""

    to: Path
    steps: Sequence[int]
    seconds: float
    pace: float
    workers: Sequence[int]
    processes: int
    thresholds: Path
    into: Path | None = None

    @property
    def plan_steps(self) -> list[Step]:
        return [Step(users, self.seconds) for users in self.steps]


@click.group()
def main() -> None:
    """Load tests of a region."""


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of what makes load."""
    options = (
        click.option("--boards", default=1, show_default=True),
        click.option("--register", default=400, show_default=True, help="Of each board."),
        click.option("--seed", default=1, show_default=True),
        click.option("--as-of", type=click.DateTime(["%Y-%m-%d"]), help="Today without it."),
        click.option(
            "--to", type=click.Path(path_type=Path), default=Path("build/load"), show_default=True
        ),
        click.option(
            *("--steps", "steps"),
            callback=_numbers,
            default="5,20,40,80,120,180",
            show_default=True,
            help="Users of each step.",
        ),
        click.option("--seconds", type=_SPAN, default=12.0, show_default=True, help="Of a step."),
        click.option("--pace", type=_SPAN, default=1.0, show_default=True, help="To an action."),
        click.option(
            "--processes",
            type=click.IntRange(1, 64),
            default=1,
            show_default=True,
            help="That make load.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_common
@click.option(
    *("--workers", "workers"),
    callback=_numbers,
    default="1,2",
    show_default=True,
    help="Processes of the server; a run for each.",
)
@click.option("--thresholds", type=click.Path(exists=True, path_type=Path), default=thresholds.FILE)
@click.option(
    "--into",
    type=click.Path(exists=True, path_type=Path),
    help="A Markdown file whose figures are replaced, such as docs/capacity.md.",
)
@click.option("--server", help="FHIR base of a server that runs already.")
@click.option("--client-id", default="", help="Our client there.")
@click.option("--key", type=click.Path(exists=True, path_type=Path), help="Its private key (JWK).")
@click.option("--token-url", default="", help="Without it, as its SMART configuration says.")
@click.option("--scope", "scopes", multiple=True, help="What is asked for; system/*.cruds else.")
@click.option("--plan", type=click.Path(exists=True, path_type=Path), help="Made by `prepare`.")
def run(
    boards: int,
    register: int,
    seed: int,
    as_of: datetime | None,
    server: str | None,
    client_id: str,
    key: Path | None,
    token_url: str,
    scopes: tuple[str, ...],
    plan: Path | None,
    **options: Any,
) -> None:
    """Run it, and write report.html and report.json."""
    chosen = Options(**options)
    try:
        bounds = thresholds.read(chosen.thresholds)
        asked = Asked(boards, register, seed=seed, as_of=_day(as_of))
        if plan is not None:
            told = _prepared(plan, chosen, bounds)
        elif server is not None:
            known = foreign.Known(server, client_id, key, token_url, scopes)
            told = _elsewhere(asked, known, chosen, bounds)
        else:
            told = _here(asked, chosen, bounds)
        _write(told, chosen.to, chosen.into)
    except (CannotRun, NothingMeasured, BadRegion, OSError, ValueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_CANNOT)
    sys.exit(0 if told.met else 1)


def _day(given: datetime | None) -> date:
    return (given or datetime.now(UTC)).date()


def _here(asked: Asked, options: Options, bounds: dict[str, Any]) -> Told:
    """Against servers of our own, each with as many workers as asked for."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        click.echo(f"Making a region of {asked.young_people} young people …")
        region = serving.make_region(asked, place)
        clients = serving.register(asked, place)
        found = [_against(asked, clients, place, workers, options) for workers in options.workers]
    return _told([runs.read(folder, bounds) for folder in found], bounds, region=region)


def _against(
    asked: Asked, clients: Sequence[Client], place: Path, workers: int, options: Options
) -> Path:
    into = _fresh(options.to / f"workers-{workers}")
    with (
        receiving() as receivers,
        serving.serving(
            asked, place, into, workers=workers, notices_to=receivers.origins
        ) as served,
        watching(partial(used, served.pid), into / SERVER),
    ):
        plan = Plan(
            base=served.base,
            token_url=served.token_url,
            folder=str(into.resolve()),
            asked=asked,
            clients=clients,
            scenarios=[one.name for one in ALL],
            steps=options.plan_steps,
            pace=options.pace,
            receivers=receivers.addresses,
            processes=options.processes,
            workers=workers,
        )
        make_load(plan, f"{workers} worker{'s' * (workers > 1)}")
    (into / "notices.json").write_text(json.dumps(receivers.taken))
    return into


def _elsewhere(
    asked: Asked, known: foreign.Known, options: Options, bounds: dict[str, Any]
) -> Told:
    into = _fresh(options.to / "server")
    found = foreign.look(known, asked)
    remarks = (f"Of this server: {one}" for one in found.remarks)
    for line in (*(f"Left out: {one}" for one in found.left_out), *remarks):
        click.echo(line)
    plan = Plan(
        base=known.base,
        token_url=found.token_url,
        folder=str(into.resolve()),
        asked=asked,
        clients=[found.client],
        scenarios=found.scenarios,
        steps=options.plan_steps,
        pace=options.pace,
        hides=False,
        processes=options.processes,
        lacks=found.lacks,
        calls_itself=found.calls_itself,
    )
    make_load(plan, known.base)
    run = runs.read(into, bounds)
    return _told([run], bounds, left_out=found.left_out, remarks=found.remarks)


def _prepared(path: Path, options: Options, bounds: dict[str, Any]) -> Told:
    plan = plans.read(path)
    _clear(Path(plan.folder))
    make_load(plan, plan.base)
    options.to.mkdir(parents=True, exist_ok=True)
    return _told([runs.read(Path(plan.folder), bounds)], bounds)


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").unlink(missing_ok=True)
    _clear(folder)
    return folder


def _clear(folder: Path) -> None:
    """Away with the raw data of a run before."""
    kinds = ("samples-*.ndjson", "steps.ndjson", "use*.ndjson", "actions-*.json", "notices.json")
    for old in (path for kind in kinds for path in folder.glob(kind)):
        old.unlink()


def make_load(plan: Plan, what: str) -> None:
    """Run Locust with the plan, in a process of its own.

    Raises:
        CannotRun: it is not installed, or broke off.
    """
    folder = Path(plan.folder)
    if not (folder / "plan.json").exists():
        plan.write(folder / "plan.json")
    seconds = sum(step.seconds for step in plan.steps)
    click.echo(f"Load on {what}, for {seconds:.0f} s …")
    several = ["--processes", str(plan.processes)] if plan.processes > 1 else []
    options = ["--headless", "--only-summary", "--stop-timeout", "15", "--exit-code-on-error", "0"]
    command = [sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), *options, *several]
    environment = {**os.environ, VARIABLE: str(folder / "plan.json"), "PYTHONPATH": str(_ROOT)}
    log = folder / "load.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    with (
        watching(partial(used, process.pid), folder / LOAD),
        watching(machine, folder / MACHINE),
    ):
        status = _ended(process, seconds + _GRACE)
    if status:
        told = log.read_text(errors="replace").strip()[-500:]
        raise CannotRun(f"Locust ended with {status} (make load installs it): {told}")


def _ended(process: "subprocess.Popen[bytes]", patience: float) -> int:
    """The exit status; whoever does not end in time, or is interrupted, is ended."""
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        raise CannotRun(f"Locust has not ended after {patience:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _told(
    found: Sequence[Run],
    bounds: dict[str, Any],
    *,
    left_out: Sequence[str] = (),
    remarks: Sequence[str] = (),
    region: str = "",
) -> Told:
    ours = all(run.workers for run in found)
    here = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return Told(
        runs=found,
        held=runs.held(found[0], bounds),
        p95_ms=thresholds.limits(bounds).p95_ms,
        machine=f"{here}; {'the load came from the same machine' if ours else _NOT_THE_SERVER}",
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        left_out=left_out,
        remarks=remarks,
        region=region,
    )


def _write(told: Told, folder: Path, into: Path | None) -> None:
    if into is not None:
        into.write_text(figures.filled(into.read_text("utf-8"), told), "utf-8")
    (folder / "report.html").write_text(report.page(told), "utf-8")
    (folder / "report.json").write_text(json.dumps(report.numbers(told), indent=1) + "\n")
    for line in (*report.answer(told), *report.in_words(told)):
        click.echo(line)
    for one in told.held:
        if not one.met:
            click.echo(f"Missed: {one.what}: {one.found:.4g}, at most {one.limit:.4g}")
    click.echo(f"{folder / 'report.html'} and report.json beside it")


@main.command("report")
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", type=click.Path(path_type=Path), default=Path("build/load"))
@click.option("--thresholds", type=click.Path(exists=True, path_type=Path), default=thresholds.FILE)
@click.option("--into", type=click.Path(exists=True, path_type=Path))
def report_again(folders: tuple[Path, ...], to: Path, thresholds: Path, into: Path | None) -> None:
    """Write the report of runs whose raw data is in FOLDERS, such as those of several machines."""
    from loadtests import thresholds as bounds_of

    try:
        bounds = bounds_of.read(thresholds)
        told = _told([runs.read(folder, bounds) for folder in folders], bounds)
    except (NothingMeasured, OSError, ValueError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_CANNOT)
    to.mkdir(parents=True, exist_ok=True)
    _write(told, to, into)
    sys.exit(0 if told.met else 1)


@main.command()
@_common
@click.option("--server", required=True, help="FHIR base of a server of this project.")
def prepare(
    boards: int, register: int, seed: int, as_of: datetime | None, server: str, **options: Any
) -> None:
    """Write keys, a plan and the lines that register the clients, for a server elsewhere."""
    chosen = Options(**options, workers=(), thresholds=thresholds.FILE)
    try:
        asked = Asked(boards, register, seed=seed, as_of=_day(as_of))
        chosen.to.mkdir(parents=True, exist_ok=True)
        clients, lines = serving.prepare(asked, chosen.to)
    except (CannotRun, BadRegion, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(_CANNOT)
    base = server.rstrip("/")
    plan = Plan(
        base=base,
        token_url=serving.Served(base, 0).token_url,
        folder=".",
        asked=asked,
        clients=[replace(one, key=Path(one.key).name) for one in clients],
        scenarios=[one.name for one in ALL if one.name != "subscribers"],
        steps=chosen.plan_steps,
        pace=chosen.pace,
        processes=chosen.processes,
    )
    plan.write(chosen.to / "plan.json")
    (chosen.to / "clients.sh").write_text("\n".join([*lines, ""]))
    units = ",".join(inpatient_units(asked))
    click.echo(f"{chosen.to / 'plan.json'}: for LOADTEST_PLAN, or run --plan")
    click.echo(f"{chosen.to / 'clients.sh'}: to be run where the server's store is")
    click.echo(f"The server needs KEYWORKING_INPATIENT_UNITS={units}")


if __name__ == "__main__":
    main()

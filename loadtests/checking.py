"""`python -m loadtests.checking`: the check of a CarePlan against parsing it with fhir.resources.

One process, one resource, the CPU time of the process: passes alternate, and the ratio of each
pair counts, so that what else the machine does is in both. Our side is the whole check, base and
profile with every invariant and binding, of a resource that is decoded already; reading it from
its bytes is told by itself. The other side is `model_validate_json`, which reads bytes.

The caches of codes are warm, as they are in a server; nothing about the resource is remembered.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import msgspec
import pydantic
from fhir.resources import R4B

from fhir_server.fhir import json
from fhir_server.validation.checker import Checker

SAMPLE: Final = Path(__file__).parent / "care_plan.json"
TARGET: Final = 0.25
_CALLS: Final = 200
"""Of one pass: long enough for the clock, short enough to be next to its other half."""


@click.command()
@click.option("--rounds", default=25, show_default=True, help="Pairs of passes.")
def main(rounds: int) -> None:
    """Measure the check of the sample, and what it is compared with."""
    report(rounds)


def report(rounds: int = 25) -> None:
    """Print the times and the ratios, each with its quartiles."""
    resource = sample()
    raw = json.encode(resource)
    checker, parse = Checker(), R4B.get_fhir_model_class("CarePlan").model_validate_json
    issues = checker.check(resource).issues
    if issues:
        raise click.ClickException(f"the sample is to be without issues: {issues[0].text}")
    click.echo(
        f"Python {platform.python_version()}, msgspec {msgspec.__version__}, "
        f"fhir.resources on pydantic {pydantic.VERSION}, a CarePlan of {len(raw)} bytes"
    )
    passes = _passes(
        rounds,
        lambda: parse(raw),
        lambda: checker.check(resource),
        lambda: checker.check(json.decode(raw)),
    )
    _tell(passes)


def sample() -> dict[str, Any]:
    """A keyworking plan that is without error and warning."""
    found: dict[str, Any] = json.decode(SAMPLE.read_bytes())
    return found


def _passes(rounds: int, *calls: Callable[[], object]) -> list[list[float]]:
    """Microseconds of CPU a call, by round; the first round warms up."""
    return [[cpu_of(call) for call in calls] for _ in range(rounds + 1)][1:]


def cpu_of(call: Callable[[], object]) -> float:
    """Microseconds of CPU that one of many calls takes."""
    before = time.process_time()
    for _ in range(_CALLS):
        call()
    return (time.process_time() - before) / _CALLS * 1e6


def _tell(passes: list[list[float]]) -> None:
    parsed, checked, both = (median(times) for times in zip(*passes, strict=True))
    click.echo(f"fhir.resources.R4B parses: {parsed:.0f} us")
    for name, time_, column in (("check", checked, 1), ("decode and check", both, 2)):
        ratios = sorted(times[column] / times[0] for times in passes)
        quarter = len(ratios) // 4
        click.echo(
            f"{name}: {time_:.0f} us, {median(ratios):.3f} of it "
            f"(quartiles {ratios[quarter]:.3f} and {ratios[-1 - quarter]:.3f}, "
            f"target {TARGET} for the check)"
        )


if __name__ == "__main__":
    main()

"""`make audit-dependencies`: known vulnerabilities of what is installed, by pip-audit.

Exit status: 1 when there is one. The service that knows them may be out of reach, as behind a
mirror of PyPI that has packages alone: that is said loudly and does not fail, for then nothing is
known, neither good nor bad. https://github.com/pypa/pip-audit
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

_COMMAND: Final = (
    *(sys.executable, "-m", "pip_audit"),
    *("--format", "json", "--progress-spinner", "off"),
)
ACCEPTED: Final = {
    "CVE-2024-23342": "ecdsa comes with python-jose, which signs with cryptography here",
}
"""Vulnerabilities that do not reach this project, by CVE, and why."""
_OWN: Final = "keyworking-fhir-server"
_SECONDS: Final = 600
_RULE: Final = "!" * 78

Run = Callable[[], str]


def audit() -> str:
    """What pip-audit writes; empty where it came to nothing."""
    try:
        ran = subprocess.run(
            _COMMAND, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return ran.stdout


def main(run: Run = audit) -> int:
    """The exit status."""
    found = _dependencies(run())
    vulnerable = [one for one in found if _open(one)]
    unknown = [one for one in found if "skip_reason" in one and one["name"] != _OWN]
    for one in vulnerable:
        for vulnerability in _open(one):
            fixed = ", ".join(vulnerability.get("fix_versions") or ["none"])
            print(f"{one['name']} {one['version']}: {vulnerability['id']}, fixed in: {fixed}")
    if unknown or not found:
        _tell_unknown(len(unknown), len(found))
    elif not vulnerable:
        print(f"{len(found)} packages, no known vulnerabilities")
    return 1 if vulnerable else 0


def _open(dependency: Any) -> list[Any]:
    """Its vulnerabilities, but those that are accepted."""
    return [
        one
        for one in dependency.get("vulns", ())
        if not ACCEPTED.keys() & {one["id"], *one.get("aliases", ())}
    ]


def _dependencies(text: str) -> Sequence[Any]:
    try:
        told = json.loads(text)
    except ValueError:
        return ()
    found: Sequence[Any] = told.get("dependencies", ())
    return found


def _tell_unknown(unknown: int, packages: int) -> None:
    what = f"{unknown} of {packages} packages were not" if packages else "Nothing was"
    text = (
        f"NOT AUDITED. {what} looked up: the service that knows vulnerabilities cannot be\n"
        "reached, or does not know them. This run says nothing about them; run it elsewhere."
    )
    print(_RULE, text, _RULE, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

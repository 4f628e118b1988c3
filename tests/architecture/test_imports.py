"""Who may import whom: the contracts in pyproject.toml, which import-linter reads; and which
libraries a server leaves alone, as it would only keep them in memory."""

import subprocess
import sys

from tests.support import REPOSITORY


def test_the_import_contracts_hold() -> None:
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    found = subprocess.run(
        [sys.executable, "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert " 0 broken" in found.stdout


_NEVER = ("fhir", "fhirpathpy", "holidays", "motor", "pygments", "pymongo", "rich")
"""Libraries of commands, of tests and of the other store."""
_SERVED = f"""
import sys
from fhir_server import outgoing, serving
from fhir_server.app import create_app
from fhir_server.settings import read_settings
create_app(read_settings({{"auth": "token"}}))
assert "httpx" not in sys.modules, "asked by few servers, and loaded by the first question"
import httpx
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({_NEVER})))
"""


def test_a_server_loads_no_library_that_it_never_needs() -> None:
    found = subprocess.run(
        [sys.executable, "-c", _SERVED], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []

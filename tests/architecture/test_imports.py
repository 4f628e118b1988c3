"""Who may import whom: the contracts in pyproject.toml, which import-linter reads."""

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

"""Names as steps of a FHIRPath: https://hl7.org/fhirpath/N1/#identifiers."""

import re
from typing import Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_NAME: Final = 64


def step(name: str) -> str:
    """What is no FHIRPath identifier stands in backticks."""
    if len(name) <= _MAX_NAME and _IDENTIFIER.fullmatch(name):
        return name
    cut = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…"
    return "`" + "".join(c if c.isprintable() and c not in "`\\" else "?" for c in cut) + "`"

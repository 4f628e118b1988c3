"""Tables for people: CSV that a spreadsheet opens without carrying anything out.

https://www.rfc-editor.org/rfc/rfc4180, https://owasp.org/www-community/attacks/CSV_Injection.
"""

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Final

from fhir_server.operation.api import Written

CSV: Final = "text/csv"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so would be reckoned out."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, further: str = "") -> Written:
    """`further` is the address of the next page, which has no place in the table."""
    written = StringIO()
    writer = csv.writer(written)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([defused(cell) for cell in row])
    headers = {"link": f'<{further}>; rel="next"'} if further else {}
    return Written(f"{CSV}; charset=utf-8", written.getvalue().encode(), headers)


def defused(cell: str) -> str:
    """With an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell

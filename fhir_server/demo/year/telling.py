"""How the year looks in a terminal of 80 columns: who did what, and what the server did then."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from textwrap import wrap
from typing import Final

from rich.console import Console
from rich.text import Text

from fhir_server.fhir.dates import LOCAL

WIDTH: Final = 80
_MARGIN: Final = 13
"""Columns of the day, or of who it is that speaks."""
_COLOURS: Final = {
    "RED": "bold red",
    "AMBER": "bold yellow",
    "GREEN": "bold green",
    "BLUE": "bold blue",
}


def console() -> Console:
    """Colours on a terminal unless NO_COLOR is set, plain text elsewhere; 80 columns."""
    return Console(markup=False, highlight=False, emoji=False, width=WIDTH, soft_wrap=True)


class Teller:
    """Tells one step after the other, in lines that are broken at words."""

    def __init__(self, out: Console) -> None:
        self._out: Final = out

    def title(self, text: str) -> None:
        self._out.print()
        self._out.print(Text(f"== {text} ".ljust(WIDTH, "="), "bold cyan"))

    def say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            for line in wrap(paragraph, WIDTH - 1):
                self._out.print(line)
        self._out.print()

    def deed(self, at: datetime, who: str, words: str, request: str) -> None:
        self._hanging(_day(at), f"{who}: {words}", "bold")
        if request:
            self._hanging("", request, "dim")

    def server(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._hanging("  server", line, "green")

    def told(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._hanging("  told", line, "magenta")

    def refused(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._hanging("  refused", line, "red")

    def meanwhile(self, done: Sequence[str]) -> None:
        """What was done in time on the way, each kind once."""
        kinds = list(dict.fromkeys(done))
        times = {kind: done.count(kind) for kind in kinds}
        told = [f"{kind} ({count} times)" if count > 1 else kind for kind, count in times.items()]
        self._hanging("  meanwhile", f"done in time: {'; '.join(told)}", "dim")

    def note(self, text: str) -> None:
        self._hanging("", text, "")

    def quote(self, lines: Iterable[str]) -> None:
        """What stands on a page."""
        for line in lines:
            self._hanging("", f"| {line}", "italic")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]], indent: int) -> None:
        """Columns as wide as what is in them; the last one gives way."""
        self._out.print()
        widths = [max(len(row[n]) for row in (headings, *rows)) for n in range(len(headings))]
        for number, row in enumerate((headings, *rows)):
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
            start = " " * indent + "  ".join(cells) + "  "
            last = wrap(row[-1], max(WIDTH - 1 - len(start), 12)) or [""]
            for part in last:
                line = f"{start}{part}".rstrip()
                self._out.print(Text(line, "bold" if number == 0 else ""))
                start = " " * len(start)
        self._out.print()

    def _hanging(self, label: str, text: str, style: str) -> None:
        start = label.ljust(_MARGIN)
        for part in wrap(text, WIDTH - 1 - _MARGIN, break_on_hyphens=False) or [""]:
            line = Text.assemble((start, "cyan"), (part, style))
            for word, colour in _COLOURS.items():
                line.highlight_words([word], colour)
            self._out.print(line)
            start = " " * _MARGIN


def _day(at: datetime) -> str:
    local = at.astimezone(LOCAL)
    return f"{local:%a} {local.day} {local:%b}"

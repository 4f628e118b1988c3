"""How the story looks in a terminal: a sentence, the request, the answer in a few words."""

from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import Final

import msgspec
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fhir_server.demo.conversation import Exchange
from fhir_server.fhir import json

_COLOURS: Final = {"red": "bold red", "amber": "bold yellow", "green": "bold green"}
_WIDTH_WITHOUT_TERMINAL: Final = 110


def console() -> Console:
    """Colours on a terminal unless NO_COLOR is set, plain text elsewhere."""
    made = Console(markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made = Console(markup=False, highlight=False, emoji=False, width=_WIDTH_WITHOUT_TERMINAL)
    return made


class Teller:
    """Tells one step after the other.

    Args:
        full: with the complete JSON of each request and answer.
    """

    def __init__(self, out: Console, *, full: bool) -> None:
        self._out: Final = out
        self._full: Final = full

    def title(self, text: str) -> None:
        self._out.print()
        self._out.print(Rule(Text(text, "bold"), align="left", style="cyan"))

    def say(self, *paragraphs: str) -> None:
        for paragraph in paragraphs:
            self._out.print(Text(paragraph))
            self._out.print()

    def tell(
        self, exchange: Exchange, body: Sequence[str] = (), shown: Iterable[RenderableType] = ()
    ) -> None:
        """The request with the telling lines of its body, the answer in words."""
        self._request(exchange, body)
        good = exchange.status < 400
        self._line("answer", f"{exchange.summary}{_version(exchange)}", "green" if good else "red")
        for item in shown:
            self._out.print(Padding(item, (0, 0, 0, 10), expand=False))
        if self._full:
            self._json("the whole answer", exchange.received)
        self._out.print()

    def _request(self, exchange: Exchange, body: Sequence[str]) -> None:
        self._line("request", f"{exchange.method} {exchange.url}", "bold")
        for name, value in exchange.headers.items():
            self._line("", f"{name}: {value}", "bold")
        for line in body:
            self._line("", line, "dim")
        if self._full and exchange.sent is not None:
            self._json("the whole request", exchange.sent)

    def _line(self, what: str, text: str, style: str) -> None:
        """Never broken by us, so that an address can be copied."""
        line = Text.assemble((f"{what:>8}  ", "cyan"), (text, style))
        self._out.print(line, soft_wrap=True)

    def _json(self, what: str, value: object) -> None:
        text = msgspec.json.format(json.encode(value), indent=2).decode()
        self._line("", f"{what}:", "cyan")
        self._out.print(Text(indent(text, " " * 10), "dim"), soft_wrap=True)


def _version(exchange: Exchange) -> str:
    return f", version {exchange.etag}" if exchange.etag else ""


def rating_line(colour: str, text: str = "") -> Text:
    """The colour in its colour."""
    style = _COLOURS.get(colour, "bold blue")
    return Text.assemble(("Rating: ", ""), (colour.upper(), style), (text, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        made.add_column(heading)
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def lines(texts: Iterable[str]) -> list[Text]:
    return [Text(text) for text in texts]

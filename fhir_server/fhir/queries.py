"""Query strings, written and read with little work where nothing in them needs an escape.

https://url.spec.whatwg.org/#concept-urlencoded
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, quote_plus

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII)
"""What stands for itself."""


def query_string(pairs: Iterable[tuple[str, str]]) -> str:
    """As `urllib.parse.urlencode`."""
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote_plus(text)


def pairs_of(query: str) -> list[tuple[str, str]]:
    """Names and values as `urllib.parse.parse_qsl` reads them, those without a value too.

    Raises:
        ValueError: for escapes that are not UTF-8.
    """
    if "%" in query or "+" in query:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    parts = [part.partition("=") for part in query.split("&") if part]
    return [(name, value) for name, _, value in parts]

"""Words of a text: what `_text` and `_content` compare, cut the same way for every backend.

A word is a run of letters and digits, folded as strings are (`values.fold`); all else separates.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from fhir_server.search.values import fold

LONGEST: Final = 255
"""Characters of a word; a longer run is as many words one after the other."""
_SIGN: Final = "\x01"
BREAK: Final = f" {_SIGN} "
"""Between texts that no phrase goes across. No string of FHIR holds it, and folding leaves it."""
MARK: Final = "¶"
"""What stands for it among the words; it is none itself, so no query can name it."""
_SHORT: Final = 2000
"""Characters of a text whose words are remembered."""
_WORD: Final = re.compile(rf"[^\W_]{{1,{LONGEST}}}")
_WORD_OR_BREAK: Final = re.compile(rf"{_WORD.pattern}|{_SIGN}")
_SEPARATORS: Final = str.maketrans(
    {char: " " for char in map(chr, range(128)) if not char.isalnum() and char != _SIGN}
)


def words(text: str) -> list[str]:
    return _WORD.findall(fold(text))


def running_words(texts: Iterable[str]) -> str:
    """The words of all the texts with spaces between, `MARK` between texts; '' without words."""
    text = BREAK.join(dict.fromkeys(texts))
    return _running(text) if len(text) > _SHORT else _running_again(text)


@lru_cache(maxsize=256)
def _running_again(text: str) -> str:
    """Tasks and plans that a service writes by itself say the same of everybody."""
    return _running(text)


def _running(text: str) -> str:
    found = " ".join(_cut(text))
    return found.strip(BREAK).replace(_SIGN, MARK)


def _cut(text: str) -> list[str]:
    if text.isascii():
        # The same, several times as fast; most texts are so.
        found = text.lower().translate(_SEPARATORS).split()
        if max(map(len, found), default=0) <= LONGEST:
            return found
    return _WORD_OR_BREAK.findall(fold(text))

"""Code systems that are grammars, or lists too long to hold: here a code's form decides.

Sources: https://www.rfc-editor.org/rfc/rfc5646#section-2.1 (languages),
https://www.rfc-editor.org/rfc/rfc6838#section-4.2 (media types),
https://ucum.org/ucum#section-Character-Set-and-Lexical-Rules (units),
https://www.iso.org/iso-4217-currency-codes.html (currencies). A code that is well formed may still
be one that nobody has registered; that is not told.
"""

import re
from typing import Final

_LANGUAGE: Final = (
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4}|[a-z]{5,8})"
    r"(?:-[a-z]{4})?(?:-(?:[a-z]{2}|\d{3}))?(?:-(?:[a-z\d]{5,8}|\d[a-z\d]{3}))*"
    r"(?:-[a-wyz\d](?:-[a-z\d]{2,8})+)*(?:-x(?:-[a-z\d]{1,8})+)?"
)
_PRIVATE: Final = r"x(?:-[a-z\d]{1,8})+"
_OLD: Final = (
    "art-lojban|cel-gaulish|en-gb-oed|no-bok|no-nyn|sgn-be-fr|sgn-be-nl|sgn-ch-de|zh-guoyu|"
    "zh-hakka|zh-min|zh-min-nan|zh-xiang|i-[a-z]{2,8}"
)
"""Tags from before the grammar, which stay valid."""
_NAME: Final = r"[a-z\d][a-z\d!#$&^_.+-]{0,126}"
_WORD: Final = r"[\w!#$%&'*+.^`|~-]+"
_PARAMETER: Final = rf'[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|"[^"\\\r\n]*")'

_FORMS: Final = {
    "urn:ietf:bcp:47": re.compile(f"{_LANGUAGE}|{_PRIVATE}|{_OLD}", re.ASCII | re.IGNORECASE),
    "urn:ietf:bcp:13": re.compile(f"{_NAME}/{_NAME}(?:{_PARAMETER})*", re.ASCII | re.IGNORECASE),
    "http://unitsofmeasure.org": re.compile(r"[!-~]+", re.ASCII),
    "urn:iso:std:iso:4217": re.compile(r"[A-Z]{3}", re.ASCII),
}
_LONGEST: Final = 200
"""Characters of a code; what is longer is none of these."""


def is_well_formed(system: str, code: str) -> bool | None:
    """Whether the code has the form of those of the system; None where that decides nothing.

    Args:
        system: the address of a code system, perhaps with `|version`.
    """
    form = _FORMS.get(system.partition("|")[0])
    return None if form is None else len(code) <= _LONGEST and form.fullmatch(code) is not None

"""What somebody said in words, as rules rely on it: a reason, a comment, what a young person says.

R4 lets a string be of blanks alone, though it should not be
(https://hl7.org/fhir/R4/datatypes.html#string), so it is stored; as a reason it is none. Nor is
what nobody can see: https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point.
"""

from typing import Final

_UNSEEN: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Hangul fillers and the blank of Braille, which count as letters and signs and show nothing."""


def said(text: str | None) -> str:
    """The words on one line, without what cannot be seen; '' where there is no letter or digit."""
    line = " ".join((text or "").split())
    seen = "".join(one for one in line if one.isprintable() and one not in _UNSEEN)
    return " ".join(seen.split()) if any(map(str.isalnum, seen)) else ""

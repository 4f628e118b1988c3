"""What the two expression languages of a search, `_filter` and `_text`, have in common."""

import re
from dataclasses import dataclass
from typing import Final

from fhir_server.errors import FhirError, Kind
from fhir_server.search.operands import BadOperand

_SHOWN: Final = 20
_SPACES: Final = re.compile(r"\s+")


@dataclass(slots=True)
class Cursor:
    """Where an expression is read, and how deep it is nested there.

    Args:
        name: the parameter, for refusals of what is too long or too deep.
    """

    text: str
    name: str
    max_length: int
    max_nesting: int
    at: int = 0
    _nesting: int = 0

    def __post_init__(self) -> None:
        if len(self.text) > self.max_length:
            raise self._too_costly(
                f"'{self.name}' has {len(self.text)} characters; {self.max_length} are allowed"
            )

    def skip_spaces(self) -> None:
        found = _SPACES.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def stands(self, char: str) -> bool:
        return self.text.startswith(char, self.at)

    def deeper(self) -> None:
        """One bracket further in.

        Raises:
            FhirError: TOO_COSTLY.
        """
        self._nesting += 1
        if self._nesting > self.max_nesting:
            raise self._too_costly(
                f"At character {self.at + 1}: '{self.name}' is nested more than "
                f"{self.max_nesting} deep, where a change between and and or counts as one; "
                f"{self.max_nesting} are allowed"
            )

    def shallower(self, steps: int = 1) -> None:
        self._nesting -= steps

    def expected(self, what: str) -> BadOperand:
        """The refusal of what stands here."""
        self.skip_spaces()
        rest = self.text[self.at :]
        found = rest.split(maxsplit=1)[0][:_SHOWN] if rest.strip() else ""
        stands = f"'{found}' stands" if found else "the text ends"
        return BadOperand(f"At character {self.at + 1}: {stands} where {what} is expected")

    def _too_costly(self, text: str) -> FhirError:
        return FhirError.at(Kind.TOO_COSTLY, f"http.{self.name}", text)

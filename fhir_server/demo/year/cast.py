"""The people of the story, and the token that each shows.

They are those of the synthetic caseload's service; the young person and the mother are the demo's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from fhir_server.authorisation.signatures import signed
from fhir_server.storage.clock import MovableClock

_GOOD_FOR: Final = 300
"""Seconds."""
_LEAST: Final = 60
"""Seconds that a token is good for when it is shown."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who does something, or a system of theirs."""

    name: str
    part: str
    """What they are to the young person."""
    user: str = ""
    """A reference; a system has none."""
    ods: str = ""
    role: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.part}"


KEYWORKER: Final = Person("Amina", "keyworker", "Practitioner/kw-practitioner-keyworker-1", "ZZK01")
HOST: Final = Person(
    "Ruth", "strategic keyworker", "Practitioner/kw-practitioner-strategic-keyworker", "ZZK01"
)
SOCIAL: Final = Person(
    "Kwame", "social worker", "Practitioner/kw-practitioner-social-worker-1", "ZZK05"
)
CAMHS: Final = Person("Daniel", "CAMHS", "Practitioner/kw-practitioner-camhs-1", "ZZK06")
WARD: Final = Person("Curlew House", "the ward's system", ods="ZZK03")
SCHOOL: Final = Person("Marcus", "school", "Practitioner/kw-practitioner-school-millbrook", "ZZK08")
STRANGER: Final = Person(
    "Joe", "keyworker elsewhere", "Practitioner/kw-practitioner-keyworker-2", "ZZK12"
)
COMMISSIONER: Final = Person("Hollin Vale ICB", "steering group", ods="ZZK02", role="commissioner")
PROMPTER: Final = Person("The demo", "behind the scenes")
"""Sets the scene and looks what the server did, by the stage door."""


class Tokens:
    """What an issuer of tokens would give each person, at the server's time."""

    def __init__(
        self, key: Mapping[str, str], audience: str, issuer: str, clock: MovableClock
    ) -> None:
        self._key: Final = key
        self._audience: Final = audience
        self._issuer: Final = issuer
        self._clock: Final = clock
        self._given: Final[dict[Person, tuple[int, str]]] = {}
        """Until when each is good."""

    def of(self, person: Person) -> str:
        now = self._clock() // 1_000_000
        until, token = self._given.get(person, (0, ""))
        if until < now + _LEAST:
            token = self._signed(person, now)
            self._given[person] = (now + _GOOD_FOR, token)
        return token

    def _signed(self, person: Person, now: int) -> str:
        who = {"fhirUser": person.user, "ods_code": person.ods, "role": person.role}
        scopes = "user/*.cruds" if person.user else "system/*.cruds"
        if person.user.startswith("Patient/"):
            who["patient"] = person.user.removeprefix("Patient/")
        return signed(
            {
                "iss": self._issuer,
                "aud": self._audience,
                "iat": now,
                "nbf": now,
                "exp": now + _GOOD_FOR,
                "jti": str(uuid4()),
                "sub": person.user or person.name,
                "client_id": "keyworking-demo",
                "scope": scopes,
                "purpose_of_use": "TREAT",
                **{name: value for name, value in who.items() if value},
            },
            self._key,
        )

"""Another terminology server, asked about what is not known here: SNOMED CT, dm+d, LOINC.

It is told codes and the addresses of value sets and systems, never what they are about whom.
An answer is bounded in size, and for a while after it did not answer it is not asked. https://hl7.org/fhir/R4/terminology-service.html
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from time import monotonic
from typing import Any, Final

from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.outgoing import Outgoing, Question, TooLarge, Unreachable
from fhir_server.terminology.codes import CodeSet, Members, listed
from fhir_server.terminology.elements import items, number, text

_MOST_BYTES: Final = 8 * 1024 * 1024
"""Of an answer."""
_MOST_ASKED: Final = 1024 * 1024
"""Bytes of a question, which may have a value set in it."""
_KEPT: Final = 2000
"""Answers."""
_KEPT_BYTES: Final = 8 * 1024 * 1024
"""Of answers as they came: what they are read to takes several times as much."""
_GOOD_FOR: Final = 3600.0
"""Seconds for which an answer is given again."""
_REST: Final = 10.0
"""Seconds for which it is left alone after it did not answer."""
_AT_ONCE: Final = 8
"""Questions that are under way."""
_MEDIA: Final = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class _Kept:
    until: float
    content: bytes


class Outside:
    """The server at a FHIR base address.

    Args:
        patience: seconds that one answer may take.
        outgoing: the way to it; by default the network's, to its origin alone.
    """

    def __init__(
        self,
        base: str,
        patience: float = 5.0,
        outgoing: Outgoing | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        import_module("httpx")  # at start, but only of a server that asks another
        self.base: Final = base.rstrip("/")
        self._patience = patience
        self._outgoing = outgoing or Outgoing([base])
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._size = 0
        self._resting_until = 0.0
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def codes(self, url: str, value_set: Resource | None, most: int) -> CodeSet:
        """All codes of a value set, which is sent along where it is known here.

        Raises:
            FhirError: as `ask`; TOO_COSTLY for more than `most` codes.
        """
        what = (
            {"name": "url", "valueUri": url}
            if value_set is None
            else {"name": "valueSet", "resource": value_set}
        )
        count = {"name": "count", "valueInteger": most + 1}
        return _all_codes(await self.ask("ValueSet/$expand", what, count), most)

    async def related(self, system: str, code: str, below: bool, most: int) -> CodeSet:
        """The code and all that is below or above it; errors as `codes`."""
        url, _, version = system.partition("|")
        op = "is-a" if below else "generalizes"
        part = {
            "system": url,
            **({"version": version} if version else {}),
            "filter": [{"property": "concept", "op": op, "value": code}],
        }
        compose = {"include": [part]}
        asked = {"resourceType": "ValueSet", "status": "active", "compose": compose}
        # By many servers' reading, what generalizes a code does not include it.
        found = await self.codes("", asked, most)
        return found.union(listed(url, [code]))

    async def ask(self, operation: str, *parameters: Mapping[str, Any]) -> Resource:
        """The answer to an operation, such as `ValueSet/$expand`.

        Raises:
            FhirError: UNAVAILABLE where it does not answer in time; UNSUPPORTED where it refuses
                or what it says is no resource; TOO_COSTLY for a question or an answer that is too
                large.
        """
        body = json.encode({"resourceType": "Parameters", "parameter": [*parameters]})
        if len(body) > _MOST_ASKED:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"The codes could not be checked: the question to the terminology server, with "
                f"the value set, has more than {_MOST_ASKED} bytes",
            )
        key = sha256(operation.encode() + b"\n" + body).digest()
        if (kept := self._known(key)) is not None:
            return kept
        self._outgoing.prepare()  # not on the time of an answer
        await self._turn()
        try:
            return self._known(key) or await self._answered(key, operation, body)
        finally:
            self._turns.release()

    async def _turn(self) -> None:
        """Wait until there is room for one more question; released by whoever got it.

        A batch of many entries may have more to ask than a server likes to be asked at once.
        """
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            raise self._away("too much is asked of it at once") from None

    async def _answered(self, key: bytes, operation: str, body: bytes) -> Resource:
        if self._clock() < self._resting_until:
            raise self._away("it did not answer a moment ago")
        try:
            status, content = await self._post(operation, body)
        except TooLarge:
            raise FhirError(
                Kind.TOO_COSTLY,
                f"The terminology server's answer has more than {_MOST_BYTES} bytes",
            ) from None
        except Unreachable as error:
            self._resting_until = self._clock() + _REST
            raise self._away(str(error)) from None
        if status >= 500:
            self._resting_until = self._clock() + _REST
            raise self._away(f"it answers {status}")
        if 300 <= status < 400:
            raise self._odd(f"redirects ({status}), which is not followed")
        answer = self._resource(content)
        if status != 200:
            raise self._refusal(status, answer)
        self._keep(key, content)
        return answer

    async def _post(self, operation: str, body: bytes) -> tuple[int, bytes]:
        headers = {"content-type": _MEDIA, "accept": _MEDIA}
        address = f"{self.base}/{operation}"
        question = Question("POST", address, headers, body, self._patience)
        return await self._outgoing.asked(question, _MOST_BYTES)

    def _known(self, key: bytes) -> Resource | None:
        kept = self._kept.get(key)
        if kept is None or kept.until < self._clock():
            return None
        self._kept.move_to_end(key)
        return self._resource(kept.content)

    def _keep(self, key: bytes, content: bytes) -> None:
        if key in self._kept:
            self._size -= len(self._kept.pop(key).content)
        self._kept[key] = _Kept(self._clock() + _GOOD_FOR, content)
        self._size += len(content)
        while len(self._kept) > _KEPT or self._size > _KEPT_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone.content)

    def _away(self, why: str) -> FhirError:
        return FhirError(
            Kind.UNAVAILABLE,
            f"The codes could not be checked: the terminology server {self.base} is away ({why})",
        )

    def _resource(self, content: bytes) -> Resource:
        try:
            return json.decode_resource(content)
        except FhirError as error:
            raise self._odd(f"answers what is no resource: {error}") from None

    def _odd(self, does: str) -> FhirError:
        return FhirError(Kind.UNSUPPORTED, f"The terminology server {self.base} {does}")

    def _refusal(self, status: int, answer: Resource) -> FhirError:
        said = "; ".join(
            text(one, "diagnostics") or text(one.get("details"), "text")
            for one in items(answer, "issue")
        )
        return FhirError(
            Kind.UNSUPPORTED,
            f"The terminology server {self.base} refuses ({status}): {said[:500] or 'no reason'}",
        )


def _all_codes(value_set: Resource, most: int) -> CodeSet:
    expansion = value_set.get("expansion")
    codes: dict[str, set[str]] = {}
    waiting, seen = items(expansion, "contains"), 0
    while waiting:
        one = waiting.pop()
        seen += 1
        waiting += items(one, "contains")
        if text(one, "code"):
            codes.setdefault(text(one, "system"), set()).add(text(one, "code"))
    if max(seen, number(expansion, "total")) > most:
        raise FhirError(Kind.TOO_COSTLY, f"The value set has more than {most} codes")
    if not isinstance(expansion, dict) or number(expansion, "total") > seen:
        raise FhirError(Kind.UNSUPPORTED, "The terminology server gives a part of the value set")
    return CodeSet({system: Members(frozenset(some)) for system, some in codes.items()})

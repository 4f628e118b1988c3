"""Tokens that bind a websocket to subscriptions, once and for a few minutes.

https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/channels.html#websockets: whoever may read
the subscription asks for the token over FHIR, so that a websocket needs no other credentials.
"""

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from fhir_server.access.caller import Stands, prefix_of, unchanged
from fhir_server.access.session import Memo, Session, SessionUnit
from fhir_server.errors import FhirError, Kind
from fhir_server.events.asked import WEBSOCKET
from fhir_server.events.notification import HANDSHAKE, as_sent, notice
from fhir_server.events.record import ACTIVE, TOKENS, Record, find, key_of
from fhir_server.events.sockets import Bound
from fhir_server.events.terms import SECOND, Terms
from fhir_server.storage.interface import Store, Unit

WEBSOCKET_PATH: Final = "ws"
"""Below the FHIR base."""
_GOOD_FOR: Final = 300 * SECOND


def websocket_url(base: str) -> str:
    """The address of websockets, of a server that clients know by that FHIR base."""
    return f"ws{base.removeprefix('http')}/{WEBSOCKET_PATH}"


async def grant(session: Session | SessionUnit, ids: Sequence[str], now: int) -> tuple[str, int]:
    """A token that binds these subscriptions of the caller, and when it is good no more."""
    name = base64.urlsafe_b64encode(session.caller.name.encode()).decode().rstrip("=")
    token = f"{name}.{secrets.token_urlsafe(32)}"
    expires = now + _GOOD_FOR
    caller = session.caller
    told = {"ids": [*ids], "by": caller.token, "expires": caller.expires}
    memo = Memo(TOKENS, _digest(token), json.dumps(told).encode(), expires)

    async def work(unit: SessionUnit) -> None:
        await unit.keep(memo)

    await session.commit("get-ws-binding-token", work)
    return token, expires


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _owner(token: str) -> str:
    name = token.partition(".")[0]
    try:
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (binascii.Error, ValueError):
        raise _unknown() from None


def _unknown() -> FhirError:
    return FhirError(
        Kind.FORBIDDEN, "The token is not known, was used, or has expired; ask for another"
    )


class Binding:
    """Binds websockets of one process."""

    def __init__(self, store: Store, terms: Terms, me: str, stands: Stands = unchanged) -> None:
        self._store = store
        self._stands = stands
        self._terms = terms
        self._me = me

    async def redeem(self, token: str) -> tuple[Sequence[Record], Bound]:
        """The subscriptions that the token is for, from now on served here; and the token of access
        that asked for it, with which the websocket ends.

        Raises:
            FhirError: FORBIDDEN for a token that is not good, or is for nothing any more.
        """
        key = prefix_of(_owner(token)) + _digest(token)
        if await self._store.memo(TOKENS, key) is None:
            raise _unknown()  # whoever guesses costs no commit

        async def work(unit: Unit) -> tuple[list[Record], Bound]:
            found = await unit.memo(TOKENS, key)
            if found is None:
                raise _unknown()
            await unit.forget(TOKENS, key)
            told = json.loads(found.value)
            bound = [await self._bound(unit, key_of(_owner(token), one)) for one in told["ids"]]
            by = Bound(told["by"], told.get("expires", 0))
            return [one for one in bound if one is not None], by

        records, by = await self._store.commit(work)
        callers = [(one, replace(one.caller, token=by.token)) for one in records]
        standing = [one for one, caller in callers if await self._stands(caller)]
        if not standing or 0 < by.expires * SECOND <= self._terms.clock():
            raise _unknown()
        return standing, by

    async def _bound(self, unit: Unit, key: str) -> Record | None:
        record = await find(unit, key)
        if record is None or record.status != ACTIVE or record.asked.channel != WEBSOCKET:
            return None
        bound = replace(record, bound=self._me)
        await unit.keep(bound.memo())
        return bound

    def greeting(self, record: Record) -> str:
        """What a websocket is told when it is bound."""
        if record.asked.is_plain:
            return f"bound {record.id}"
        now = self._terms.clock()
        made = notice(self._terms.base, record, HANDSHAKE, [], now)
        return as_sent(record, made).decode()

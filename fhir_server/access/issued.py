"""What the built-in authorisation server has issued, as far as tokens are checked by it.

A token that it issued is good as long as there is a memo of its `jti`: revoking it, or all of a
client, takes the memo away. So whatever is forgotten, lost or restored from an older backup is
refused, and so is a token that somebody signed with a stolen key.
"""

from collections.abc import Sequence
from typing import Any, Final

from fhir_server.access.ledger import OWN
from fhir_server.access.tokens.keys import PublicKey, key_set
from fhir_server.fhir import json
from fhir_server.storage.interface import Reader

KEYS: Final = "keys"
"""Of the signing keys, by `kid`."""
TOKENS: Final = "tokens"
"""Of the tokens that are good, by `jti`, which is `client/random`."""
ENDED: Final = "ended"
"""Of tokens that were revoked, by `jti`: what they began ends too. One that has expired is none."""
ALGORITHM: Final = "ES384"
"""By which its tokens are signed."""
_MOST_KEYS: Final = 100


async def is_revoked(reader: Reader, jti: str) -> bool:
    """Whether a token with that `jti` is not, or no longer, good."""
    return await reader.memo(OWN + TOKENS, jti) is None


async def public_keys(reader: Reader) -> list[dict[str, Any]]:
    """The JSON Web Keys by which its tokens are verified: RFC 7517 section 4."""
    found = await reader.memos(OWN + KEYS, "", _MOST_KEYS)
    return [json.decode_own(memo.value)["public"] for memo in found]


class Issued:
    """The keys and revocations of the built-in issuer, as the resource server asks for them.

    Nothing is kept between two questions: a key that was taken away verifies nothing any more, and
    a new one verifies at once.

    Args:
        issuer: the name that its tokens have for it.
    """

    def __init__(self, reader: Reader, issuer: str) -> None:
        self._reader = reader
        self._issuer = issuer

    async def find(self, kid: str) -> Sequence[PublicKey]:
        memo = await self._reader.memo(OWN + KEYS, kid)
        if memo is None:
            return ()
        public = json.decode_own(memo.value)["public"]
        return key_set(json.encode({"keys": [public]})).get(kid, ())

    async def revoked(self, issuer: str, jti: str) -> bool:
        """Whether it is a token of the built-in issuer that is not good any more."""
        return issuer == self._issuer and await is_revoked(self._reader, jti)

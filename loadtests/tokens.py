"""Tokens by SMART Backend Services, asked for anew before they expire.

https://hl7.org/fhir/smart-app-launch/backend-services.html. Nothing but the standard library asks,
so that whatever makes load may replace the sockets below it.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Final
from urllib.parse import urlencode

from fhir_server.registering import CannotRegister, assertion

_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_USED: Final = 0.75
_TRIES: Final = 5
_PATIENCE: Final = 30.0
"""Seconds for one answer."""


class NoToken(Exception):
    """The authorisation server gives none; the text has its status and answer."""


class Tokens:
    """The tokens of one client.

    Args:
        url: the token endpoint.
        used: the share of its life after which another one is asked for.
    """

    def __init__(
        self,
        url: str,
        client: str,
        key: Path,
        scopes: Sequence[str],
        used: float = _USED,
    ) -> None:
        self._url, self._client, self._key = url, client, key
        self._scope = " ".join(scopes)
        self._used = used
        self._lock = Lock()
        self._token = ""
        self._until = 0.0
        self.granted = self._scope
        """What the last one may do: less than was asked for, if the server grants less."""
        self.count = 0
        """How many there have been."""

    def current(self) -> str:
        """One that is good for some time.

        Raises:
            NoToken: there is none.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._renew()
            return self._token

    def _renew(self) -> None:
        began = time.monotonic()
        answer = self._asked()
        if not answer.get("access_token"):
            raise NoToken(f"{self._url}: an answer without access_token")
        self._token = str(answer["access_token"])
        self.granted = str(answer.get("scope") or self._scope)
        self._until = began + float(str(answer.get("expires_in", 60))) * self._used
        self.count += 1

    def _asked(self) -> dict[str, object]:
        for attempt in range(_TRIES):
            try:
                return self._once()
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503) or attempt == _TRIES - 1:
                    said = error.read()[:300].decode(errors="replace")
                    raise NoToken(f"{self._url}: {error.code} {said}") from None
                time.sleep(1)
            except CannotRegister as error:
                raise NoToken(str(error)) from None
            except (OSError, ValueError) as error:
                raise NoToken(f"{self._url}: {error}") from None
        raise NoToken(self._url)

    def _once(self) -> dict[str, object]:
        form = {
            "grant_type": "client_credentials",
            "scope": self._scope,
            "client_assertion_type": _TYPE,
            "client_assertion": assertion(self._client, self._key, self._url),
        }
        request = urllib.request.Request(self._url, urlencode(form).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310
            found = json.load(answer)
        return found if isinstance(found, dict) else {}

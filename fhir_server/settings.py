"""Settings: environment variables `KEYWORKING_*`, read once, frozen.

A value that does not fit, or a name that is not known, is an error at start.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "KEYWORKING_"
PATH = "/fhir"
"""Where the FHIR interface stands below the host."""


class Settings(BaseSettings):
    """What can be set, with its default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    store: str = "sqlite:///./var/keyworking.db"
    """`sqlite:///relative/path` or `sqlite:////absolute/path`."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Server processes on the one store."""
    auth: Literal["none"] | None = None
    """`none`: without tokens, on loopback only. There is no other way yet."""
    public_base: str = ""
    """The FHIR base that clients use, such as https://fhir.example.nhs.uk/fhir, when it is not
    the host and port that the server listens on."""
    operations: Annotated[tuple[str, ...], NoDecode] = ("operations",)
    """Python packages with operations, separated by commas."""
    max_body: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Bytes of a request's body."""
    max_entries: Annotated[int, Field(ge=1)] = 1000
    """Entries of a transaction or batch."""
    default_count: Annotated[int, Field(ge=1)] = 50
    """Matches on a page when `_count` is not given."""
    max_count: Annotated[int, Field(ge=1)] = 1000
    """Matches on a page at the most."""
    max_includes: Annotated[int, Field(ge=1)] = 1000
    """Resources that includes may add to a page."""
    page_lifetime: Annotated[int, Field(ge=1)] = 3600
    """Seconds for which a link to a further page is good."""
    search_patience: Annotated[float, Field(gt=0)] = 10.0
    """Seconds that a search may take."""

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        packages = values.get("operations")
        if isinstance(packages, str):
            values["operations"] = tuple(name.strip() for name in packages.split(",") if name)
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        sqlite_path(self.store)
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"auth 'none' serves on loopback only, and {self.host} is not loopback; "
                "use 127.0.0.1, ::1 or localhost"
            )
        if self.public_base and urlsplit(self.public_base).scheme not in ("http", "https"):
            raise ValueError("public_base is not an http or https address")
        return self

    @property
    def base(self) -> str:
        """The FHIR base without a slash at its end."""
        if self.public_base:
            return self.public_base.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{PATH}"


def refuse_unknown_variables() -> None:
    """A misspelt variable would otherwise be a setting that silently does not hold.

    Raises:
        ValueError: naming the variable and those that exist.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and not name.startswith(PREFIX + "TEST_"):
            raise ValueError(f"{name} is not a setting; there are {', '.join(sorted(known))}")


def sqlite_path(store: str) -> Path:
    """The file of a `sqlite:///` URL.

    Raises:
        ValueError: for any other URL.
    """
    head = "sqlite:///"
    if not store.startswith(head) or len(store) == len(head):
        raise ValueError(
            f"'{store}' is not a store; sqlite:///relative/path or sqlite:////absolute/path is. "
            "MongoDB is not supported yet"
        )
    return Path(store.removeprefix(head))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

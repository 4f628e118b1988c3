"""Settings of what stands around the interface: browsers, TLS, rates, outgoing calls, logs."""

import re
import ssl
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9]\d{0,4}))?",
    re.ASCII,
)
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class AroundSettings(BaseSettings):
    """What stands around the interface, with its defaults."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, such as https://app.example.nhs.uk, whose scripts in a browser may ask this server,
    separated by commas; none by default."""
    tls_certificate: Path | None = None
    """File with the server's certificate and those between it and its authority, as PEM."""
    tls_key: Path | None = None
    """File with the certificate's private key, as PEM."""
    tls_key_password: Annotated[str, Field(repr=False)] = ""
    """Password of the private key, where it has one."""
    tls_minimum: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken."""
    tls_client_ca: Path | None = None
    """File with the authorities of clients' certificates; with it, every client needs one."""
    max_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Requests a second of one client, in the long run, of each server process; 0 for no bound."""
    max_burst: Annotated[int, Field(ge=1)] = 200
    """Requests of one client at once, after a rest."""
    max_failure_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    """Failed authentications a second from one address, in the long run; 0 for no bound."""
    max_failure_burst: Annotated[int, Field(ge=1)] = 60
    """Failed authentications from one address at once."""
    outgoing_private_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names of hosts, such as terms.trust.nhs.uk, that the server may ask although they have a
    private address, separated by commas."""
    log_format: Literal["text", "json"] = "text"
    """`json`: each line of the log is an object."""
    access_log: bool = False
    """Whether each request is a line of the log, without anything about people."""
    server_timing: bool = False
    """Whether FHIR answers tell how long they took, and how long they waited for the store."""

    @model_validator(mode="after")
    def _check_around(self) -> Self:
        for origin in self.cors_origins:
            _require_origin_of_browser(origin)
        for host in self.outgoing_private_hosts:
            _require_host(host)
        self._check_tls()
        return self

    def _check_tls(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together; give both or none")
        alone = self.tls_certificate is None
        if alone and (self.tls_client_ca is not None or self.tls_key_password):
            raise ValueError("tls_client_ca and tls_key_password go with tls_certificate")

    @property
    def scheme(self) -> str:
        """In which the server itself is spoken to."""
        return "http" if self.tls_certificate is None else "https"


def tls_context(settings: AroundSettings) -> ssl.SSLContext | None:
    """What connections are secured with; None of a server without TLS.

    Raises:
        ValueError: for files that cannot be read or do not fit together.
    """
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_minimum]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load_certificate(context, settings)
    if settings.tls_client_ca is not None:
        _load_authorities(context, settings.tls_client_ca)
    return context


def _load_certificate(context: ssl.SSLContext, settings: AroundSettings) -> None:
    certificate, key = settings.tls_certificate, settings.tls_key
    assert certificate is not None  # noqa: S101 - the caller saw to it
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        _require_readable(name, path)
    try:  # a password is always given: without one, OpenSSL would ask on the terminal
        context.load_cert_chain(certificate, key, lambda: settings.tls_key_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ValueError(
            f"tls_certificate {certificate} and tls_key {key} are not a certificate and its key "
            f"as PEM, or tls_key_password is not the key's ({reason})"
        ) from None


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _require_readable("tls_client_ca", path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise ValueError(f"tls_client_ca {path} holds no certificates as PEM") from None
    context.verify_mode = ssl.CERT_REQUIRED


def _require_readable(name: str, path: Path | None) -> None:
    try:
        (path or Path()).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}: {path} cannot be read: {error.strerror}") from None


def _require_origin_of_browser(text: str) -> None:
    """As a browser sends it: RFC 6454 section 6.2, in small letters, without the usual port."""
    found = _ORIGIN.fullmatch(text)
    if found is None or int(found["port"] or 1) > 65_535:
        raise ValueError(
            f"cors_origins: '{text}' is not an origin; https://app.example.nhs.uk is one, and * "
            "is none"
        )
    if (found["scheme"], found["port"]) in (("http", "80"), ("https", "443")):
        raise ValueError(f"cors_origins: '{text}' names the usual port; browsers leave it out")


def _require_host(text: str) -> None:
    if not text or not text.isascii() or set(text) & set("/:@*[]?# "):
        raise ValueError(
            f"outgoing_private_hosts: '{text}' is not the name of a host, such as "
            "terms.trust.nhs.uk"
        )

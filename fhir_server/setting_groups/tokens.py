"""Settings of tokens: whose are taken, how they are verified, which claim says what."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode

from fhir_server.access.tokens.keys import ALGORITHMS, key_set
from fhir_server.setting_groups.addresses import require_outgoing

LISTS: Final = ("token_algorithms", "claim_client")
CLAIMS: Final = (
    *("claim_client", "claim_scope", "claim_user", "claim_organisation", "claim_role"),
    *("claim_purpose", "claim_patient"),
)


class TokenSettings(BaseSettings):
    """Of `--auth token`."""

    issuer: str = ""
    """Whose tokens are taken, exactly as `iss` tells it."""
    audience: str = ""
    """What `aud` of a token has to name; the FHIR base where it is not set."""
    jwks: str = ""
    """The issuer's keys, a JWK Set: an https address, or a file that may be replaced."""
    jwks_interval: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60.0
    """Seconds between two attempts to read the keys, whatever tokens ask for."""
    jwks_max_age: Annotated[float, Field(ge=2, allow_inf_nan=False)] = 3600.0
    """Seconds after which keys that could not be read anew verify nothing any more."""
    issuer_patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    """Seconds that an answer of the issuer may take."""
    token_algorithms: Annotated[tuple[str, ...], NoDecode] = ALGORITHMS
    """Signatures that are taken, separated by commas."""
    token_leeway: Annotated[int, Field(ge=0, le=300)] = 30
    """Seconds by which the issuer's clock may differ."""
    token_max: Annotated[int, Field(ge=256, le=64 * 1024)] = 16 * 1024
    """Characters of a token."""
    token_cache: Annotated[int, Field(ge=0, le=3600)] = 300
    """Seconds for which a verified token is not verified again; never beyond its own end."""
    token_outlived: Annotated[int, Field(ge=0, le=3660 * 24 * 3600)] = 90 * 24 * 3600
    """Seconds for which what a token of that issuer began, a job or notices, goes on after it has
    expired."""
    introspection_url: str = ""
    """Where the issuer is asked about opaque tokens (RFC 7662); https."""
    introspection_client: str = ""
    """Who we are there."""
    introspection_secret: Annotated[str, Field(repr=False)] = ""
    """The secret of that client."""
    introspection_secret_file: str = ""
    """A file with that secret."""
    introspection_cache: Annotated[int, Field(ge=0, le=3600)] = 30
    """Seconds for which the issuer is not asked about the same token again."""
    claim_client: Annotated[tuple[str, ...], NoDecode] = ("client_id", "azp")
    """Claims with the client, separated by commas; the first that is there counts."""
    claim_scope: str = "scope"
    """Claim with the scopes."""
    claim_user: str = "fhirUser"
    """Claim with the user: a reference such as `Practitioner/12`."""
    claim_organisation: str = "ods_code"
    """Claim with the ODS code of the organisation that they act for."""
    claim_role: str = "role"
    """Claim with their roles: a text or a list."""
    claim_purpose: str = "purpose_of_use"
    """Claim with the purpose of use, a code of v3-ActReason such as TREAT."""
    claim_patient: str = "patient"
    """Claim with the patient of the launch context."""
    authorize_endpoint: str = ""
    """Where the issuer lets people log in; told to apps, and not used here."""
    token_endpoint: str = ""
    """Where the issuer gives tokens; told to clients, and not used here."""
    revocation_endpoint: str = ""
    """Where the issuer takes tokens back; told to clients, and not used here."""

    def token_secret(self) -> str:
        """The secret for introspection, from the environment or the file.

        Raises:
            ValueError: for a file that cannot be read.
        """
        if not self.introspection_secret_file:
            return self.introspection_secret
        try:
            return Path(self.introspection_secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"introspection_secret_file cannot be read: {error}") from None

    def require_tokens(self, *, built_in: bool) -> Self:
        """Raise for settings by which no token could ever be verified, or anybody's could.

        Args:
            built_in: whether the built-in authorisation server gives tokens, too.

        Raises:
            ValueError: saying what is missing.
        """
        for name in ("introspection_url", "authorize_endpoint", "token_endpoint"):
            require_outgoing(name, getattr(self, name))
        require_outgoing("revocation_endpoint", self.revocation_endpoint)
        unknown = [name for name in self.token_algorithms if name not in ALGORITHMS]
        if unknown or not self.token_algorithms:
            raise ValueError(
                f"token_algorithms: '{', '.join(unknown)}' cannot be allowed; "
                f"{', '.join(ALGORITHMS)} can"
            )
        blank = [name for name in CLAIMS if not all(_several(getattr(self, name)))]
        if blank:
            raise ValueError(f"{blank[0]} is blank; give the name of a claim")
        if self.issuer or self.jwks or self.introspection_url or not built_in:
            self._require_issuer()
        self._require_keys()
        self._require_introspection()
        return self

    def _require_issuer(self) -> None:
        if not self.issuer:
            raise ValueError("auth 'token' needs issuer: whose tokens are taken")
        if not (self.jwks or self.introspection_url):
            raise ValueError(
                "auth 'token' needs jwks, the issuer's keys, or introspection_url for opaque tokens"
            )

    def _require_keys(self) -> None:
        if "://" in self.jwks:
            require_outgoing("jwks", self.jwks)
        elif self.jwks:
            try:
                found = key_set(Path(self.jwks).read_bytes())
            except (OSError, ValueError) as error:
                raise ValueError(f"jwks: {self.jwks} cannot be read: {error}") from None
            if not found:
                raise ValueError(f"jwks: {self.jwks} has no public key for signatures with a kid")

    def _require_introspection(self) -> None:
        if self.introspection_secret and self.introspection_secret_file:
            raise ValueError("introspection_secret and introspection_secret_file: give one of them")
        secret = self.token_secret()
        if self.introspection_url and not (self.introspection_client and secret):
            raise ValueError(
                "introspection_url needs introspection_client, and introspection_secret or "
                "introspection_secret_file"
            )


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else (value,)

"""What clients are told of where tokens come from: /.well-known/smart-configuration.

https://hl7.org/fhir/smart-app-launch/conformance.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_CAPABILITIES: Final = ("permission-patient", "permission-user", "permission-v1", "permission-v2")
"""What the resource server itself does; the issuer adds what it does."""
_OF_LAUNCH: Final = ("launch-standalone", "client-public", "client-confidential-symmetric")


@dataclass(frozen=True, slots=True)
class SmartConfiguration:
    """Where the issuer of tokens is; addresses that are '' are not told."""

    issuer: str = ""
    jwks_uri: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    introspection_endpoint: str = ""
    revocation_endpoint: str = ""
    grants: tuple[str, ...] = ("authorization_code", "client_credentials")
    capabilities: tuple[str, ...] = ()
    """Further ones, of the issuer."""
    authentication: tuple[str, ...] = ("private_key_jwt",)
    """How clients show at the token endpoint who they are."""

    def document(self) -> dict[str, Any]:
        """As it is told at the base."""
        told = {**self._addresses(), **self._abilities()}
        return {name: value for name, value in told.items() if value}

    def _addresses(self) -> dict[str, str]:
        return {
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri,
            "authorization_endpoint": self.authorization_endpoint,
            "token_endpoint": self.token_endpoint,
            "introspection_endpoint": self.introspection_endpoint,
            "revocation_endpoint": self.revocation_endpoint,
        }

    def _abilities(self) -> dict[str, Sequence[str]]:
        launches = _OF_LAUNCH if self.authorization_endpoint else ()
        return {
            "grant_types_supported": self.grants,
            "token_endpoint_auth_methods_supported": self.authentication,
            "response_types_supported": ("code",) if self.authorization_endpoint else (),
            "scopes_supported": ("patient/*.rs", "user/*.cruds", "system/*.cruds"),
            "code_challenge_methods_supported": ("S256",),
            "capabilities": (*_CAPABILITIES, *launches, *self.capabilities),
        }

    def oauth_uris(self) -> dict[str, Any]:
        """The extension of CapabilityStatement.rest.security.

        http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris
        """
        uris = {
            "token": self.token_endpoint,
            "authorize": self.authorization_endpoint,
            "introspect": self.introspection_endpoint,
            "revoke": self.revocation_endpoint,
        }
        return {
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [{"url": name, "valueUri": uri} for name, uri in uris.items() if uri],
        }

"""Settings of the built-in authorisation server."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from fhir_server.setting_groups.addresses import wrong_with_base


class AuthorisationSettings(BaseSettings):
    """What can be set of it, with its default."""

    authorisation_server: bool = True
    """Whether the built-in authorisation server answers at /auth and its tokens are taken; it has
    no clients to begin with."""
    authorisation_base: str = ""
    """The address of /auth that clients use, when it is not beside the FHIR base."""
    token_lifetime: Annotated[int, Field(ge=30, le=3600)] = 300
    """Seconds for which a token of the built-in authorisation server is good."""

    @model_validator(mode="after")
    def _check_authorisation(self) -> Self:
        wrong = wrong_with_base(self.authorisation_base) if self.authorisation_base else ""
        if wrong:
            raise ValueError(f"authorisation_base {wrong}; https://fhir.example.nhs.uk/auth is one")
        return self

"""Settings of the built-in authorisation server."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class AuthorisationSettings(BaseSettings):
    """What can be set of it, with its default."""

    authorisation_server: bool = True
    """Whether the built-in authorisation server answers at /auth; it has no clients to begin
    with."""
    authorisation_base: str = ""
    """The address of /auth that clients use, when it is not beside the FHIR base."""
    token_lifetime: Annotated[int, Field(ge=30, le=3600)] = 300
    """Seconds for which a token of the built-in authorisation server is good."""

"""Settings of subscriptions and the notices that they bring (docs/api/subscriptions.md)."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, NoDecode

from fhir_server.setting_groups.addresses import is_loopback, wrong_with_base

_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class NoticeSettings(BaseSettings):
    """See docs/api/subscriptions.md."""

    notices_to: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins, such as https://hooks.trust.nhs.uk, below which subscriptions may name endpoints,
    separated by commas; none by default, and then there are websockets and inboxes alone."""
    max_subscriptions: Annotated[int, Field(ge=1)] = 100
    """Subscriptions of one caller that are at work."""
    subscription_days: Annotated[int, Field(ge=1, le=3660)] = 90
    """Days for which a subscription lives, unless its caller writes it again."""
    notice_concurrency: Annotated[int, Field(ge=0, le=1000)] = 100
    """Notices that one server process sends at a time; 0 leaves them to others."""
    notice_every: _Seconds = 1.0
    """Seconds between two looks for what is new."""
    notice_patience: _Seconds = 10.0
    """Seconds that a receiver may take, where its subscription does not say; it may say 60."""
    notice_retry_first: _Seconds = 5.0
    """Seconds before a notice that was not taken is sent again; twice as long after each."""
    notice_retry_longest: _Seconds = 3600.0
    """Seconds between two attempts, at the most."""
    notice_retry_hours: _Seconds = 72.0
    """Hours of failing after which a subscription is suspended."""
    notice_days: Annotated[int, Field(ge=1, le=3660)] = 14
    """Days for which `$events` tells of what was sent."""
    notice_lease: _Seconds = 15.0
    """Seconds after which another process takes the subscriptions of one that was killed."""

    @model_validator(mode="after")
    def _check_notices(self) -> Self:
        for origin in self.notices_to:
            require_origin("notices_to", origin, "https://hooks.trust.nhs.uk")
        return self


def require_origin(setting: str, origin: str, example: str) -> None:
    """https, or http on this machine; a scheme, a host and perhaps a port.

    Raises:
        ValueError: for what is none.
    """
    parts = urlsplit(origin)
    wrong = wrong_with_base(origin)
    if not wrong and (parts.path or f"{parts.scheme}://{parts.netloc}" != origin):
        wrong = "is more than scheme, host and port"
    if not wrong and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        wrong = "is http, which is for this machine only"
    if wrong:
        raise ValueError(f"{setting}: '{origin}' {wrong}; {example} is one")

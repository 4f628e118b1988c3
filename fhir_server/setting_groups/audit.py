"""Settings of the audit."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class AuditSettings(BaseSettings):
    """What is audited, and where else its rows go."""

    audit: Literal["on", "strict", "off"] = "on"
    """`strict`: no answer before its row is on disk. `off`: with `--auth none` alone."""
    audit_queue: Annotated[int, Field(ge=10)] = 10_000
    """Rows of reads and refusals that may wait to be written; beyond, requests are refused."""
    audit_syslog: str = ""
    """Where rows are sent as syslog messages besides: `tls://host:port`, `tcp://host:port` or
    `unix:///dev/log`."""

    def require_audit(self, auth: str | None) -> None:
        """Raises ValueError where there has to be an audit, and is none."""
        if self.audit == "off" and auth != "none":
            raise ValueError("audit 'off' is for auth 'none' alone; 'on' and 'strict' are others")

    @field_validator("audit_syslog")
    @classmethod
    def _require_receiver(cls, address: str) -> str:
        parts = urlsplit(address)
        streams = parts.scheme in ("tls", "tcp")
        to_host = streams and parts.hostname and parts.port and not parts.path
        if address and not to_host and not (parts.scheme == "unix" and parts.path):
            raise ValueError(
                f"'{address}' is no receiver; tls://logs.example.nhs.uk:6514, tcp://127.0.0.1:601 "
                "or unix:///dev/log are"
            )
        return address

    keep_audit: Annotated[int | None, Field(ge=1)] = None
    """Days for which `keyworking prune` keeps rows of the audit; without it, all are kept."""

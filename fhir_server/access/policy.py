"""What a caller may see: a policy is a term of every query.

Until tokens and consent come in, there are two: the open one of `--auth none`, and the closed
one that stands wherever nobody chose.
"""

from typing import Final, Protocol

from fhir_server.access.caller import Caller
from fhir_server.search.ast import Everything, Node, Nothing

__all__ = ["Caller", "ClosedPolicy", "OpenPolicy", "Policy"]


class Policy(Protocol):
    """Decides by resource type, before anything is read."""

    def readable(self, resource_type: str) -> Node:
        """The resources of the type that may be seen, searched, counted and included."""

    def writable(self, resource_type: str) -> Node:
        """The resources of the type that may be written, as they were and as they will be."""


class ClosedPolicy:
    """Nothing may be seen or written."""

    def readable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()

    def writable(self, resource_type: str) -> Node:  # noqa: ARG002
        return Nothing()


AUDITED: Final = "AuditEvent"
"""The type that nobody writes: its resources are made of the audit's rows when they are read
(`Session.audited`). What of it lies among the resources, from before, is as if it were not."""


class OpenPolicy:
    """Everything may be seen and written: for trying things out, on loopback only."""

    def readable(self, resource_type: str) -> Node:
        return Nothing() if resource_type == AUDITED else Everything()

    def writable(self, resource_type: str) -> Node:
        return Nothing() if resource_type == AUDITED else Everything()

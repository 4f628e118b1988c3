"""What a search may take: longer than that, it is ended, so that others need not wait for it."""

from fhir_server.errors import FhirError, Kind


class OutOfTime(FhirError):
    """A search was ended after `patience` seconds.

    Whoever asked it can ask for less. Where the server itself did, for what follows from an
    event, it is the store that is slow, and the event can come again.
    """

    def __init__(self, patience: float) -> None:
        super().__init__(
            Kind.TOO_COSTLY,
            f"The search took longer than {patience:g} s; narrow it, for example to one patient",
        )


def too_slow() -> FhirError:
    """What the service looks up itself is about one person: then it is the store that is slow."""
    text = "The store is too slow now for what follows from this; nothing is stored, send it again"
    return FhirError(Kind.UNAVAILABLE, text)

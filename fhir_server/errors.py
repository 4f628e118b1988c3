"""The one error type of the server and the closed set of its kinds.

Every layer raises `FhirError`; one renderer (`fhir_server.http.render`) turns it into an
OperationOutcome, for answers and for Bundle entries alike.

Sources: issue types https://hl7.org/fhir/R4/valueset-issue-type.html, status codes
https://hl7.org/fhir/R4/http.html.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

MAX_ISSUES: Final = 500
"""More are only counted: nobody reads them, and an answer must not outgrow its request."""


class _KindValue(NamedTuple):
    status: int
    code: str


class Kind(Enum):
    """What went wrong: an HTTP status and an R4 issue type."""

    MALFORMED = _KindValue(400, "structure")
    """The body is not JSON, not FHIR JSON, or not the type that the address names."""
    INVALID = _KindValue(400, "invalid")
    """A parameter, header or address is not well formed, or a resource breaks its definition
    (400 for that: https://hl7.org/fhir/R4/http.html#create)."""
    PROFILE = _KindValue(422, "invalid")
    """A resource breaks a profile that it claims or that is required of it
    (422 for that: https://hl7.org/fhir/R4/http.html#create)."""
    BUSINESS_RULE = _KindValue(422, "business-rule")
    """A rule of the service refuses it."""
    UNSUPPORTED = _KindValue(400, "not-supported")
    UNAUTHENTICATED = _KindValue(401, "login")
    """There is no token, or not one that is good."""
    NOT_FOUND = _KindValue(404, "not-found")
    METHOD_NOT_ALLOWED = _KindValue(405, "not-supported")
    NOT_ACCEPTABLE = _KindValue(406, "not-supported")
    GONE = _KindValue(410, "deleted")
    CONFLICT = _KindValue(409, "conflict")
    DUPLICATE = _KindValue(409, "duplicate")
    PRECONDITION_FAILED = _KindValue(412, "conflict")
    MULTIPLE_MATCHES = _KindValue(412, "multiple-matches")
    TOO_LARGE = _KindValue(413, "too-long")
    URL_TOO_LONG = _KindValue(414, "too-long")
    UNSUPPORTED_MEDIA_TYPE = _KindValue(415, "not-supported")
    HEADERS_TOO_LARGE = _KindValue(431, "too-long")
    """https://www.rfc-editor.org/rfc/rfc6585#section-5"""
    THROTTLED = _KindValue(429, "throttled")
    """https://www.rfc-editor.org/rfc/rfc6585#section-4"""
    TOO_COSTLY = _KindValue(403, "too-costly")
    FORBIDDEN = _KindValue(403, "forbidden")
    UNAVAILABLE = _KindValue(503, "transient")
    INTERNAL = _KindValue(500, "exception")

    @property
    def status(self) -> int:
        return self.value.status

    @property
    def code(self) -> str:
        return self.value.code


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem: what is wrong and what is allowed (`text`), and where (`expression`).

    `expression` is a FHIRPath such as `Patient.name[0].given`, or `http.<parameter>` for a
    place in the request (https://hl7.org/fhir/R4/operationoutcome.html).
    `code` overrides the kind's issue type; `severity` is error, warning or information.
    `rule` names the rule that is broken, such as `min` or the key of an invariant, and `profile`
    the canonical of the profile that has it, None where R4 itself does.
    """

    text: str
    expression: str | None = None
    code: str | None = None
    severity: str = "error"
    rule: str | None = None
    profile: str | None = None


class FhirError(Exception):
    """A refusal: its kind and every issue found, not only the first.

    `challenge` is what `WWW-Authenticate` tells, where the refusal is about a token.
    """

    def __init__(
        self,
        kind: Kind,
        *issues: Issue | str,
        allowed_methods: tuple[str, ...] = (),
        retry_after: int = 0,
        challenge: str = "",
    ) -> None:
        self.kind: Final = kind
        self.retry_after: Final = retry_after
        self.allowed_methods: Final = allowed_methods
        self.challenge: Final = challenge
        self.issues: Final = tuple(
            Issue(issue) if isinstance(issue, str) else issue for issue in issues
        )
        super().__init__("; ".join(issue.text for issue in self.issues))

    @classmethod
    def of(cls, kind: Kind, issues: Iterable[Issue], challenge: str = "") -> "FhirError":
        return cls(kind, *issues, challenge=challenge)

    @classmethod
    def at(cls, kind: Kind, expression: str, text: str) -> "FhirError":
        """One issue with its place."""
        return cls(kind, Issue(text, expression))


def let_go(error: FhirError) -> FhirError:
    """The error, once all that is told of it is its kind and issues.

    By their tracebacks it and what it came of hold frames that hold them, and with them the whole
    request, however large its body is, until somebody collects garbage.
    """
    came_of: BaseException | None = error
    while came_of is not None and came_of.__traceback__ is not None:
        came_of.__traceback__ = None
        came_of = came_of.__cause__ or came_of.__context__
    return error

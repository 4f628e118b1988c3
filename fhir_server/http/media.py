"""The other forms in which an operation may answer, such as a page to print or a table.

`_format` goes before `Accept`, as for resources (https://hl7.org/fhir/R4/http.html#parameters).
"""

from collections.abc import Sequence

from fhir_server.http.messages import HttpRequest
from fhir_server.http.negotiate import NAMES, media_ranges
from fhir_server.interactions.routing import Match
from fhir_server.operation.registry import Operations


def written_as(
    operations: Operations,
    http: HttpRequest,
    match: Match,
    parameters: Sequence[tuple[str, str]],
) -> str:
    """The one that the client asks for; '' for a resource, and where there is no such form."""
    if not match.operation:
        return ""
    level = "instance" if match.id else "type" if match.resource_type else "system"
    operation = operations.find(match.operation, level, match.resource_type)
    if operation is None or not operation.media:
        return ""
    named = dict(parameters).get("_format")
    if named is not None:
        bare = named.partition(";")[0].strip().lower()
        return bare if bare in operation.media else ""
    return _best(operation.media, http.headers.get("accept", ""))


def _best(offered: Sequence[str], accept: str) -> str:
    """Only what is named exactly: whoever takes anything gets a resource."""
    qualities = {one.name: one.quality for one in media_ranges(accept)}
    of_resource = max((qualities.get(name, 0) for name in NAMES), default=0)
    best = max(offered, key=lambda name: qualities.get(name, 0))
    found = qualities.get(best, 0)
    return best if found > 0 and found >= of_resource else ""

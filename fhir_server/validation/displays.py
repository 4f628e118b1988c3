"""A code that is called what it is not.

The display may be what people read, and the code what machines act on: where they differ, one of
them is wrong. Source: https://hl7.org/fhir/R4/datatypes.html#Coding.
"""

from collections.abc import Sequence

from fhir_server.errors import Issue
from fhir_server.terminology.names import misnamed
from fhir_server.validation.codes import Called
from fhir_server.validation.primitives import shown


def display_issue(called: Called, names: Sequence[str], at: str) -> Issue:
    """The warning about a display that is none of the names; `at` leads to its Coding."""
    text = misnamed(shown(called.display)[1:-1], shown(called.code)[1:-1], names)
    return Issue(text, f"{at}.display", "invalid", "warning", "display")

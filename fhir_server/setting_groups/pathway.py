"""Settings of the keyworking pathway: the fields of `fhir_server.operation.pathway.Numbers`.

They are defined there, below the settings, so that operations and rules can name what they get.
"""

from fhir_server.operation.pathway import Numbers, Pathway


class PathwaySettings(Numbers):
    """See docs/settings.md."""


def pathway_of(settings: Numbers) -> Pathway:
    """What operations and rules are given: these fields and no others."""
    return Pathway(**{name: getattr(settings, name) for name in Numbers.model_fields})

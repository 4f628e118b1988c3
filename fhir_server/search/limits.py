"""Bounds on one search; beyond them it is refused or, for the page size, cut."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    default_count: int = 50
    max_count: int = 1000
    max_values: int = 1000
    max_parameters: int = 100
    max_sort: int = 10
    """Keys of one order."""
    max_chain: int = 5
    """Steps from resource to resource in one criterion."""
    max_contained_links: int = 20
    """As `max_links`, where each type that may contain others is asked."""
    max_links: int = 500
    """Steps that one search stands for, once each type that a reference may mean is counted."""
    max_expression: int = 10_000
    """Characters of one `_filter`, `_text` or `_content`."""
    max_nesting: int = 20
    """Brackets within brackets of one of those."""
    max_tests: int = 2000
    """Tests and words of those, once each of several types is counted."""

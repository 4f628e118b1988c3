"""Elements of terminology resources, whatever stands in their place."""

from typing import Any


def text(node: Any, name: str) -> str:
    """The text, '' where there is none."""
    value = node.get(name) if isinstance(node, dict) else None
    return value if isinstance(value, str) else ""


def items(node: Any, name: str) -> list[dict[str, Any]]:
    value = node.get(name) if isinstance(node, dict) else None
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def texts(node: Any, name: str) -> list[str]:
    value = node.get(name) if isinstance(node, dict) else None
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def number(node: Any, name: str) -> int:
    """The whole number, -1 where there is none."""
    value = node.get(name) if isinstance(node, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else -1

"""Observations of the same kind: those that share a coding, also by way of others."""

from collections.abc import Mapping
from typing import Any, Final

from fhir_server.access.session import StoredVersion
from fhir_server.fhir import json
from fhir_server.search.values import fold

Key = tuple[str, ...]


class Groups:
    """The first few of each kind, in the order in which they are added.

    What joins two kinds, by a coding of each, makes them one; the first few of the whole are
    among the first few of the parts.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._parents: dict[Key, Key] = {}
        self._members: dict[Key, list[tuple[int, StoredVersion]]] = {}
        self._added = 0
        self.kept = 0

    def add(self, version: StoredVersion) -> None:
        roots = {self._root(key) for key in _keys(json.decode_own(version.body))}
        root = min(roots)
        for other in roots - {root}:
            self._parents[other] = root
            moved = self._members.pop(other, [])
            self.kept -= len(moved)
            self._keep(root, moved)
        self._keep(root, [(self._added, version)])
        self._added += 1

    def all(self) -> list[StoredVersion]:
        """Kind by kind, that of the first one first."""
        ordered = sorted(self._members.values(), key=lambda members: members[0][0])
        return [version for members in ordered for _, version in members]

    def _keep(self, root: Key, more: list[tuple[int, StoredVersion]]) -> None:
        there = self._members.get(root, [])
        members = sorted([*there, *more], key=lambda member: member[0])[: self._most]
        self._members[root] = members
        self.kept += len(members) - len(there)

    def _root(self, key: Key) -> Key:
        parent = self._parents.setdefault(key, key)
        while parent != key:
            key, parent = parent, self._parents[parent]
        return key


def _keys(observation: Mapping[str, Any]) -> list[Key]:
    """What it is of, for its subject: its codings, or else its text."""
    subject = observation.get("subject", {}).get("reference", "")
    code = observation.get("code", {})
    codings: list[Key] = [
        (subject, coding.get("system", ""), coding["code"])
        for coding in code.get("coding", ())
        if "code" in coding
    ]
    return codings or [(subject, fold(code.get("text", "")))]

"""Discovery: operations are found in the packages that the settings name.

Each is checked when it is loaded, so that a definition and its function never drift apart
unseen. The project's own operations come through the same door.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from types import ModuleType

from fhir_server.fhir import json
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Run
from fhir_server.validation.structure import check_resource


class BadOperation(Exception):
    """A plug-in is not what its definition says, or the other way round."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A definition with its function."""

    definition: Resource
    run: Run

    @property
    def code(self) -> str:
        return str(self.definition["code"])

    @property
    def affects_state(self) -> bool:
        return bool(self.definition.get("affectsState", True))

    def answers_at(self, level: str, resource_type: str) -> bool:
        """Whether it may be invoked at `system`, `type` or `instance`, on that type."""
        if not self.definition.get(level):
            return False
        return level == "system" or resource_type in self.definition.get("resource", ())

    def stands_on(self, resource_type: str) -> bool:
        """Whether the CapabilityStatement lists it there; '' is the system."""
        if not resource_type:
            return self.answers_at("system", "")
        return any(self.answers_at(level, resource_type) for level in ("type", "instance"))


class Operations:
    """The operations that are wired, by code."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._by_code = {operation.code: operation for operation in operations}

    def find(self, code: str) -> Operation | None:
        return self._by_code.get(code)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._by_code.values())


def load(packages: Iterable[str]) -> Operations:
    """The operations in these packages.

    Raises:
        BadOperation: for a definition without function or the reverse, a definition that R4
            does not allow, or two of one code.
    """
    found: dict[str, Operation] = {}
    for package in packages:
        for operation in _in_package(importlib.import_module(package)):
            if operation.code in found:
                raise BadOperation(f"${operation.code} is defined twice")
            found[operation.code] = operation
    return Operations(found.values())


def _in_package(package: ModuleType) -> Iterator[Operation]:
    modules = {m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_"}
    definitions = {
        entry.name.removesuffix(".json"): entry
        for entry in files(package).iterdir()
        if entry.name.endswith(".json")
    }
    for name, entry in sorted(definitions.items()):
        if name not in modules:
            raise BadOperation(f"{package.__name__}/{entry.name} has no {name}.py beside it")
        module = importlib.import_module(f"{package.__name__}.{name}")
        yield _operation(name, json.decode_resource(entry.read_bytes()), module)


def _operation(name: str, definition: Resource, module: ModuleType) -> Operation:
    issues = check_resource(definition, expected_type="OperationDefinition")
    if issues:
        raise BadOperation(f"{name}.json: {issues[0].expression}: {issues[0].text}")
    if definition["code"].replace("-", "_") != name:
        raise BadOperation(f"{name}.json defines ${definition['code']}")
    run = getattr(module, "run", None)
    if not inspect.iscoroutinefunction(run):
        raise BadOperation(f"{name}.py has no 'async def run(call)'")
    return Operation(definition, run)

"""Discovery: operations are found in the packages that the settings name.

Each is checked when it is loaded, so that a definition and its function never drift apart
unseen. The project's own operations come through the same door.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import ModuleType
from typing import Final

from fhir_server.errors import FhirError
from fhir_server.fhir import json
from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import Resource
from fhir_server.operation.api import Run, TakeStep
from fhir_server.validation.structure import check_resource

_MARKS: Final = ("PAGED", "TAKES_LINES", "TAKES_FAULTY", "READS_BY_GET")
_SCOPE: Final = re.compile(r"(\{type\}|\{_type\}|\*|[A-Z][A-Za-z]+)\.(c?r?u?d?s?)", re.ASCII)
Scopes = tuple[tuple[str, str], ...]
"""Types, or what stands for them, each with the letters of SMART scopes."""
_READING: Final[Scopes] = (("{type}", "rs"),)
_WRITING: Final[Scopes] = (("*", "cruds"),)


class BadOperation(Exception):
    """A plug-in is not what its definition says, or the other way round."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A definition with its function."""

    definition: Resource
    run: Run
    paged: bool = False
    """Whether it answers page by page, by links of its own making."""
    step: TakeStep | None = None
    """Takes a step of its job, where it answers with one."""
    takes_lines: bool = False
    """Whether its body may be ndjson, which it then reads by itself."""
    takes_faulty: bool = False
    """Whether the resources that it is given may break their definitions."""
    reads_by_get: bool = False
    """Whether it may be asked with GET though it writes by POST: it only looks then."""
    scopes: Scopes = _WRITING
    """What a token has to grant to whoever invokes it."""
    as_service: str = ""
    """Why it takes the service's own rights, where it does."""
    media: tuple[str, ...] = ()
    """In which forms it answers beside a resource."""

    @property
    def code(self) -> str:
        return str(self.definition["code"])

    @property
    def affects_state(self) -> bool:
        return bool(self.definition.get("affectsState", True))

    def writes_by(self, method: str) -> bool:
        """Whether it may change what is stored when it is asked in this way."""
        return self.affects_state and not (self.reads_by_get and method in ("GET", "HEAD"))

    def answers_at(self, level: str, resource_type: str) -> bool:
        """Whether it may be invoked at `system`, `type` or `instance`, on that type."""
        if not self.definition.get(level):
            return False
        types = self.definition.get("resource", ())
        return level == "system" or resource_type in types or "Resource" in types

    def meets(self, other: "Operation") -> bool:
        """Whether there is a place where both would answer."""
        if self.code != other.code:
            return False
        types = [*self.definition.get("resource", ()), *other.definition.get("resource", ())]
        return any(
            self.answers_at(level, name) and other.answers_at(level, name)
            for level in ("system", "type", "instance")
            for name in types or [""]
        )

    def stands_on(self, resource_type: str) -> bool:
        """Whether the CapabilityStatement lists it there; '' is the system."""
        if not resource_type:
            return self.answers_at("system", "")
        return any(self.answers_at(level, resource_type) for level in ("type", "instance"))


class Operations:
    """The operations that are wired; one code may mean another one on another type."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self._all = tuple(operations)

    def find(self, code: str, level: str, resource_type: str) -> Operation | None:
        """The one that answers at `system`, `type` or `instance`, on that type."""
        for operation in self._all:
            if operation.code == code and operation.answers_at(level, resource_type):
                return operation
        return None

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._all)


def load(packages: Iterable[str]) -> Operations:
    """The operations in these packages.

    Raises:
        BadOperation: for a package that is none, a definition without function or the reverse,
            a definition that R4 does not allow or that answers nowhere, or two of one code
            at one place.
    """
    found: list[Operation] = []
    for package in packages:
        for operation in _in_package(_imported(package)):
            if any(operation.meets(other) for other in found):
                raise BadOperation(f"${operation.code} is defined twice")
            found.append(operation)
    return Operations(found)


def _imported(package: str) -> ModuleType:
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise BadOperation(f"There is no package '{package}' with operations: {error}") from error
    if not hasattr(module, "__path__"):
        raise BadOperation(f"'{package}' is a module, not a package with operations")
    return module


def _in_package(package: ModuleType) -> Iterator[Operation]:
    modules = {
        found.name
        for found in pkgutil.iter_modules(package.__path__)
        if not (found.ispkg or found.name.startswith("_"))
    }
    definitions = {
        entry.name.removesuffix(".json"): entry
        for entry in files(package).iterdir()
        if entry.name.endswith(".json")
    }
    for name in sorted(modules - definitions.keys()):
        raise BadOperation(
            f"{package.__name__}/{name}.py has no {name}.json beside it; "
            "the name of a module that is no operation begins with '_'"
        )
    for name, entry in sorted(definitions.items()):
        if name not in modules:
            raise BadOperation(f"{package.__name__}/{entry.name} has no {name}.py beside it")
        module = importlib.import_module(f"{package.__name__}.{name}")
        yield _operation(name, _definition(name, entry.read_bytes()), module)


@lru_cache(256)
def _definition(name: str, raw: bytes) -> Resource:
    """Judged once, however many servers one process makes: the checks are most of a start."""
    try:
        definition = json.decode_resource(raw)
    except FhirError as error:
        raise BadOperation(f"{name}.json: {error}") from error
    issues = check_resource(definition, expected_type="OperationDefinition")
    if issues:
        raise BadOperation(f"{name}.json: {issues[0].expression}: {issues[0].text}")
    return definition


def _operation(name: str, definition: Resource, module: ModuleType) -> Operation:
    if name not in _names(definition):
        raise BadOperation(f"{name}.json defines ${definition.get('code', '')}")
    levels = [level for level in ("system", "type", "instance") if definition.get(level)]
    if not levels or (levels != ["system"] and not definition.get("resource")):
        raise BadOperation(f"{name}.json names no level or no resource where it is invoked")
    run = getattr(module, "run", None)
    if not inspect.iscoroutinefunction(run):
        raise BadOperation(f"{name}.py has no 'async def run(call)'")
    step = getattr(module, "step", None)
    if step is not None and not inspect.iscoroutinefunction(step):
        raise BadOperation(f"{name}.py has a step that is no 'async def step(task)'")
    paged, lines, faulty, by_get = (bool(getattr(module, one, False)) for one in _MARKS)
    scopes, media = _scopes(name, definition, module), _media(name, module)
    service = _service(name, module)
    return Operation(definition, run, paged, step, lines, faulty, by_get, scopes, service, media)


def _scopes(name: str, definition: Resource, module: ModuleType) -> Scopes:
    """As its `SCOPES` say; else reading for what only reads, and everything for what writes."""
    told = getattr(module, "SCOPES", None)
    if told is None:
        return _WRITING if definition.get("affectsState", True) else _READING
    if not (isinstance(told, tuple) and told and all(isinstance(one, str) for one in told)):
        raise BadOperation(f"{name}.py has SCOPES that are no tuple of texts")
    return tuple(_scope(name, one) for one in told)


def _scope(name: str, text: str) -> tuple[str, str]:
    found = _SCOPE.fullmatch(text)
    known = found is not None and (found[1][0] in "{*" or is_resource_type(found[1]))
    if found is None or not found[2] or not known:
        raise BadOperation(f"{name}.py: '{text}' is no scope such as 'Patient.rs' or '{{type}}.u'")
    return found[1], found[2]


def _service(name: str, module: ModuleType) -> str:
    reason = getattr(module, "AS_SERVICE", "")
    if not isinstance(reason, str):
        raise BadOperation(f"{name}.py has an AS_SERVICE that is no reason in words")
    return reason


def _media(name: str, module: ModuleType) -> tuple[str, ...]:
    told = getattr(module, "MEDIA", ())
    if not (isinstance(told, tuple) and all(isinstance(one, str) for one in told)):
        raise BadOperation(f"{name}.py has MEDIA that are no tuple of texts")
    return told


def _names(definition: Resource) -> list[str]:
    """What its file may be called: after the code, with its one type before it or not."""
    code = str(definition.get("code", "")).replace("-", "_")
    types = definition.get("resource") or ["system"]
    return [code, f"{types[0].lower()}_{code}"] if len(types) == 1 else [code]

"""Extensions: what their definitions say, wherever they stand.

Sources: https://hl7.org/fhir/R4/extensibility.html (modifier extensions that are not known must
not be accepted; others may be ignored), https://hl7.org/fhir/R4/defining-extensions.html#context
(context of use).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from fhir_server.fhir.definitions import base_type, type_definition
from fhir_server.validation.places import Place
from fhir_server.validation.primitives import shown
from fhir_server.validation.profiles.claims import KEYWORKING
from fhir_server.validation.profiles.library import Definition, Library
from fhir_server.validation.profiles.paths import expected, url_of
from fhir_server.validation.profiles.say import Say
from fhir_server.validation.profiles.tree import CANONICAL, Node, ProfileError
from fhir_server.validation.report import Report, add

Check = Callable[[Mapping[str, Any], Place, Report], None]
_DISTINCT: Final = "UKCore"
"""What has it in its name is an extension of UK Core; other names may be those of two."""
_OWN: Final = f"{KEYWORKING}/StructureDefinition/"
_UK_CORE: Final = "https://fhir.hl7.org.uk/StructureDefinition/"
_MAX_NEAREST: Final = 20
"""Problems after which none is looked for any more: comparing names takes its time."""
_LONGEST: Final = 300
_ANYWHERE: Final = frozenset({"Element", "*"})


class _Known(NamedTuple):
    """`contexts` are paths or types, () for anywhere."""

    check: Check
    is_modifier: bool
    contexts: frozenset[str]
    say: Say
    parts: frozenset[str] = frozenset()
    """Urls of the extensions in it, where the definition names them; () where it has none."""


class KnownExtensions:
    """Checks each extension whose definition is in the library."""

    def __init__(self, library: Library, check_of: Callable[[str], Check | None]) -> None:
        self._library = library
        self._check_of = check_of
        self._known: dict[str, _Known | None] = {}

    def check(
        self,
        extension: Mapping[str, Any],
        place: Place,
        report: Report,
        holder: str,
        is_modifier: bool,
    ) -> None:
        """`holder` is the type or backbone that has the extension."""
        url = extension.get("url")
        if not isinstance(url, str):
            return
        if ":" not in url and not is_modifier:
            self._relative(url, place, report, holder)
            return
        try:
            self._check(extension, url, place, report, holder, is_modifier)
        except ProfileError as error:
            # R4 itself has extensions like that; nobody who sends one could mend it.
            text = f"The {error}; the extension was not checked"
            Say(url)(report, place, text, "processing", "definition", "warning")

    def _check(
        self,
        extension: Mapping[str, Any],
        url: str,
        place: Place,
        report: Report,
        holder: str,
        is_modifier: bool,
    ) -> None:
        known = self._of(url)
        if known is None:
            self._unknown(url, is_modifier, (place, "url"), report)
            return
        if known.is_modifier != is_modifier:
            self._misplaced(known, place, report)
        if known.contexts and holder not in known.contexts and holder != "Extension":
            self._check_context(known, place, report, holder)
        known.check(extension, place, report)
        if known.parts and "extension" in extension:
            _check_parts(known, extension["extension"], place, report)

    def _relative(self, url: str, place: Place, report: Report, holder: str) -> None:
        """A part of a complex extension, which that one's definition checks, and nothing else."""
        if holder != "Extension" and not report.has_wrong(place, ("url",)):
            text = f"the url of an extension is absolute, not {shown(url)}"
            add(report, (place, "url"), text, "value")

    def _unknown(self, url: str, is_modifier: bool, place: Place, report: Report) -> None:
        """Fine, but where it would change the meaning, or is another one with a wrong address."""
        if is_modifier:
            text = f"the modifier extension {shown(url)} is not known here and cannot be ignored"
            add(report, place, text, "extension")
            return
        meant = self._library.namesake(url)
        if meant is not None and len(url) <= _LONGEST:
            text = f"{shown(url)} is not known here, so it would be ignored; {meant} is"
            severity = "error" if _DISTINCT in meant else "warning"
            Say(url)(report, place, text, "extension", "address", severity)
        elif url.startswith(_OWN) and len(url) <= _LONGEST:
            text = f"{shown(url)} is no extension of the service, so it would be ignored"
            Say(url)(report, place, text, "extension", "address")
        elif url.startswith(_UK_CORE) and len(url) <= _LONGEST and len(report) < _MAX_NEAREST:
            nearest = self._library.nearest(url)
            text = f"{shown(url)} is no extension of UK Core that is known here" + (
                f"; did you mean {nearest}?" if nearest else ", so it would be ignored"
            )
            Say(url)(report, place, text, "extension", "address", "warning")

    def _of(self, url: str) -> _Known | None:
        if url in self._known:
            return self._known[url]
        definition = self._library.definition(url)
        if definition is None or definition["type"] != "Extension":
            return None  # not kept: senders can make up any number of urls
        self._known[url] = known = self._made(url, definition)
        return known

    def _made(self, url: str, definition: Definition) -> _Known | None:
        check, tree = self._check_of(url), self._library.tree(url)
        if check is None or tree is None:
            return None
        is_modifier = tree.element.get("isModifier", False) is True
        contexts, parts = frozenset(_contexts(definition)), self._parts(tree)
        return _Known(check, is_modifier, contexts, Say(url), parts)

    def _parts(self, tree: Node) -> frozenset[str]:
        """() where others are refused anyway, or nothing is said of what is in it."""
        inner = (tree.children or {}).get("extension")
        if inner is None or inner.element.get("slicing", {}).get("rules") == "closed":
            return frozenset()
        said = [url_of(each, self._library.tree) for each in inner.slices.values()]
        return frozenset(url for each in said for url in expected(each))

    def _misplaced(self, known: _Known, place: Place, report: Report) -> None:
        text = (
            "is a modifier extension and belongs in modifierExtension"
            if known.is_modifier
            else "is no modifier extension and belongs in extension"
        )
        known.say(report, place, text, "extension", "modifier")

    def _check_context(self, known: _Known, place: Place, report: Report, holder: str) -> None:
        if known.contexts.isdisjoint(_places(place, report, holder)):
            listed = ", ".join(sorted(known.contexts))
            text = f"may stand in {listed}, not in {holder}"
            # R4's own definitions have their own extensions in other places than these say.
            severity = "warning" if str(known.say.profile).startswith(CANONICAL) else "error"
            known.say(report, place, text, "extension", "context", severity)


def _check_parts(known: _Known, parts: Any, place: Place, report: Report) -> None:
    """A part that the definition does not have would be ignored; others may have any address."""
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        url = part.get("url") if isinstance(part, Mapping) else None
        if isinstance(url, str) and url and ":" not in url and url not in known.parts:
            text = f"{shown(url)} is no part of this extension, so it would be ignored; there are "
            at = (((place, "extension"), index), "url")
            listed = ", ".join(sorted(known.parts))
            known.say(report, at, text + listed, "extension", "part", "warning")


def _contexts(definition: Definition) -> Iterator[str]:
    """() where it may stand anywhere, or where only an expression or another profile tells."""
    contexts: Iterable[Mapping[str, str]] = definition.get("context", ())
    names = [each["expression"].replace("[x]", "") for each in contexts]
    is_plain = all(each["type"] == "element" for each in contexts)
    if is_plain and _ANYWHERE.isdisjoint(names) and not any("#" in name for name in names):
        yield from names


def _places(place: Place, report: Report, holder: str) -> Iterator[str]:
    """What the holder is called: its types, and paths from the resource and the types around."""
    name = holder
    while name:
        yield name
        name = base_type(name)
    names = {str(report.resource.get("resourceType"))}
    for step in _steps(place, report):
        names = {f"{each}.{step}" for each in names}.union(*(_types(each, step) for each in names))
    yield from names


def _steps(place: Place, report: Report) -> Iterator[str]:
    """The names of elements from the resource down to what has the extension."""
    steps: list[str] = []
    of_array = isinstance(place[1], int) and place[0] is not None
    rest = place[0][0] if of_array and place[0] is not None else place[0]
    while rest is not None and rest != report.place:
        if isinstance(rest[1], str):
            steps.append(rest[1])
        rest = rest[0]
    return reversed(steps)


def _types(owner: str, name: str) -> set[str]:
    """The type of an element; none where it has a choice of them."""
    try:
        element = type_definition(owner).elements.get(name)
    except KeyError:
        return set()
    return set() if element is None else {element.type}

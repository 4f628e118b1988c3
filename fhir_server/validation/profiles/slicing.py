"""Slicing: which slice a value belongs to, and how many each has.

Sources: https://hl7.org/fhir/R4/profiling.html#slicing and #discriminator. The discriminator
`position` is R5's (https://hl7.org/fhir/R5/valueset-discriminator-type.html).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from fhir_server.validation.codes import codings_of, membership
from fhir_server.validation.places import Place
from fhir_server.validation.profiles.items import Item, choice_keys
from fhir_server.validation.profiles.paths import (
    Step,
    expected,
    finder,
    read_path,
    said_at,
)
from fhir_server.validation.profiles.say import Rule, Say
from fhir_server.validation.profiles.signs import (
    OF_PROFILE,
    Signs,
    explained,
    is_unclear,
    signs,
    signs_of_urls,
)
from fhir_server.validation.profiles.snapshot import TreeOf
from fhir_server.validation.profiles.tree import Node
from fhir_server.validation.profiles.values import Test, pattern_test
from fhir_server.validation.report import Note, Report

Belongs = Callable[[Item, int, Report], bool]
"""Does the value at that index fit one discriminator of a slice?"""
Fits = Callable[[str, Any, Report], bool]
"""Does a resource or value fit the profile?"""

EXTENSIONS: Final = ("extension", "modifierExtension")


class Slice(NamedTuple):
    """`least` and `most` items (None: no limit), and what more is said of each of them."""

    name: str
    belongs: tuple[Belongs, ...]
    least: int
    most: int | None
    rules: tuple[Rule, ...]
    urls: frozenset[str] = frozenset()
    """Of extensions: those that alone tell what belongs to it."""
    signs: Signs = OF_PROFILE


class Slicing:
    """Checks all items of one sliced element."""

    def __init__(self, node: Node, slices: Sequence[Slice], say: Say) -> None:
        slicing = node.element.get("slicing", {})
        self._name = node.base_name
        self._slices = slices
        self._ordered = slicing.get("ordered", False) is True
        self._rules = slicing.get("rules", "open")
        self._say = say
        self._by_url = _by_url(slices) if all(each.urls for each in slices) else None
        self.least: Final = sum(each.least for each in slices)
        """Fewer items than these are too few for some slice, which says so."""

    def __call__(self, items: Sequence[Item], place: Place, report: Report) -> None:
        found = [self._slice_of(item, index, report) for index, item in enumerate(items)]
        if self._rules != "open" or self._ordered:
            self._check_order(items, found, report)
        short = []
        for number, each in enumerate(self._slices):
            count = found.count(number)
            if not count and not each.least:
                continue
            if count < each.least:
                short.append((each, count))
            if each.most is not None and count > each.most:
                self._tell_most(each, count, place, report)
            if each.rules:
                members = [item for item, of in zip(items, found, strict=True) if of == number]
                _check_members(each.rules, members, report)
        if short:
            others = [item for item, of in zip(items, found, strict=True) if of is None]
            self._tell_short(short, others, place, report)

    @property
    def is_right(self) -> Test | None:
        """Whether an array of extensions has nothing to check, where only numbers are limited."""
        is_bare = all(len(each.urls) == 1 and not each.rules for each in self._slices)
        are_few = all(not each.least and each.most != 0 for each in self._slices)
        is_open = self._rules == "open" and not self._ordered
        return _are_distinct if is_bare and are_few and is_open else None

    def _slice_of(self, item: Item, index: int, report: Report) -> int | None:
        if self._by_url is not None:
            return self._by_url.get(_url_of(item))
        for number, each in enumerate(self._slices):
            for belongs in each.belongs:
                if not belongs(item, index, report):
                    break
            else:
                return number
        return None

    def _tell_short(
        self,
        short: Sequence[tuple[Slice, int]],
        others: Sequence[Item],
        place: Place,
        report: Report,
    ) -> None:
        """But for what may be among the `others`, which R4 refuses where a slice is told by."""
        if report.has_wrong(place, ("",)):
            return
        known = [each.signs for each, _ in short]
        unclear = [item for item in others if is_unclear(item.place, known, report)]
        missing = [(each.signs, each.least - count) for each, count in short]
        for (each, count), found in zip(short, explained(missing, unclear), strict=True):
            if found < each.least - count:
                text = f"needs at least {each.least} of the slice {each.name}; there are {count}"
                note = Note(part=each.name)
                self._say(report, (place, self._name), text, "required", "min", note=note)

    def _tell_most(self, each: Slice, count: int, place: Place, report: Report) -> None:
        text = f"may have at most {each.most} of the slice {each.name}; there are {count}"
        self._say(report, (place, self._name), text, "structure", "max", note=Note(part=each.name))

    def _check_order(
        self, items: Sequence[Item], found: Sequence[int | None], report: Report
    ) -> None:
        names = ", ".join(each.name for each in self._slices)
        highest, ended = -1, False
        for item, number in zip(items, found, strict=True):
            if number is None:
                ended = True
                if self._rules == "closed":
                    text = f"belongs to none of the slices, and no others are allowed: {names}"
                    self._say(report, item.place, text, "structure", "slicing")
            elif self._rules == "openAtEnd" and ended:
                text = f"must stand before what belongs to none of the slices: {names}"
                self._say(report, item.place, text, "structure", "slicing")
            elif self._ordered and number < highest:
                text = f"is out of order; the slices come as {names}"
                self._say(report, item.place, text, "structure", "slicing")
            highest = max(highest, -1 if number is None else number)


def _check_members(rules: Sequence[Rule], members: Sequence[Item], report: Report) -> None:
    for item in members:
        for rule in rules:
            rule(item, report)


def _are_distinct(extensions: Any) -> bool:
    """Whether each has a url of its own."""
    if type(extensions) is not list:
        return False
    urls = [each.get("url") for each in extensions if type(each) is dict]
    return all(type(url) is str for url in urls) and len(set(urls)) == len(extensions)


def _url_of(item: Item) -> str:
    url = item.value.get("url") if isinstance(item.value, dict) else None
    return url if isinstance(url, str) else ""


def _by_url(slices: Sequence[Slice]) -> dict[str, int]:
    """The first slice of each url."""
    found: dict[str, int] = {}
    for number, each in enumerate(slices):
        for url in each.urls:
            found.setdefault(url, number)
    return found


# Discriminators --------------------------------------------------------------------------------


class Discriminators:
    """Compiles the tests of slices; ValueError, with the reason, for those that say nothing."""

    def __init__(self, tree_of: TreeOf, type_of: Callable[[str], str | None], fits: Fits) -> None:
        self._tree_of = tree_of
        self._type_of = type_of
        self._fits = fits

    def tests(self, node: Node, each: Node, number: int) -> tuple[Belongs, ...]:
        """What tells that a value of the node belongs to that slice, the `number`th."""
        if node.name in EXTENSIONS:
            urls = self.urls(each)
            return (lambda item, _index, _report: _url_of(item) in urls,)
        discriminators = node.element.get("slicing", {}).get("discriminator") or ()
        if node.is_choice and not discriminators:
            discriminators = ({"type": "type", "path": "$this"},)
        if not discriminators and node.element["max"] == "1":
            return ()  # there is one value, and it is that slice
        if not discriminators:
            raise ValueError("a slice without discriminator; nothing tells what belongs to it")
        return tuple(self._test(node, each, number, known) for known in discriminators)

    def signs(self, node: Node, each: Node) -> Signs:
        if node.name in EXTENSIONS:
            return signs_of_urls(self.urls(each))
        return signs(node, each, self._tree_of)

    def _test(self, node: Node, each: Node, number: int, known: dict[str, str]) -> Belongs:
        steps = read_path(known["path"])
        match known["type"]:
            case "value" | "pattern":
                return self._value(node, each, steps)
            case "exists":
                return self._exists(node, each, steps)
            case "type":
                return self._type(node, each, steps)
            case "profile":
                return self._profile(node, each, steps)
            case "position":
                return lambda _item, index, _report: index == number
        raise ValueError(f"the discriminator type '{known['type']}' is not known")

    def urls(self, each: Node) -> frozenset[str]:
        """Of a slice of extensions."""
        said = expected(said_at(each, [Step("", "url")], self._tree_of))
        urls = frozenset(value for value in said if isinstance(value, str)) or frozenset(
            profile.partition("|")[0] for profile in each.profiles()
        )
        if not urls:
            raise ValueError("a slice of extensions without the url of one")
        return urls

    def _value(self, node: Node, each: Node, steps: Sequence[Step]) -> Belongs:
        find = finder(node, steps, self._tree_of)
        said = said_at(each, steps, self._tree_of)
        wanted = [pattern_test(value) for value in expected(said)]
        value_sets = tuple(filter(None, (_narrower(one.node) for one in said)))
        if not wanted and not value_sets:
            raise ValueError("nothing is fixed where the discriminator of the slice looks")

        def has_value(item: Item, _index: int, report: Report) -> bool:
            values = find(item.value, report)
            return any(fits(value) for value in values for fits in wanted)

        def has_code(item: Item, _index: int, report: Report) -> bool:
            return any(
                membership(report.codes, value_set, codings_of(value)) == "yes"
                for value in find(item.value, report)
                for value_set in value_sets
            )

        def is_value(item: Item, _index: int, _report: Report) -> bool:
            return any(fits(item.value) for fits in wanted)

        return has_code if not wanted else has_value if steps else is_value

    def _exists(self, node: Node, each: Node, steps: Sequence[Step]) -> Belongs:
        find = finder(node, steps, self._tree_of)
        said = said_at(each, steps, self._tree_of)
        if any(one.node.element["max"] == "0" for one in said):
            return lambda item, _index, report: not find(item.value, report)
        if any(one.node.element["min"] > 0 for one in said):
            return lambda item, _index, report: bool(find(item.value, report))
        raise ValueError("the slice neither requires nor forbids what its discriminator looks at")

    def _type(self, node: Node, each: Node, steps: Sequence[Step]) -> Belongs:
        said = said_at(each, steps, self._tree_of)
        types = {name for one in said for name in (one.node.types or [one.node.origin])}
        if not steps:
            return lambda item, _index, _report: _type_of(item.value, item.type) in types
        find = finder(node, steps, self._tree_of)
        choice = self._choice(node, steps)
        if choice is not None:
            holders = finder(node, steps[:-1], self._tree_of)
            keys = {k for k, t in choice_keys(choice, choice.base["type"]).items() if t in types}
            return lambda item, _index, report: any(
                isinstance(value, dict) and not keys.isdisjoint(value)
                for value in holders(item.value, report)
            )
        return lambda item, _index, report: any(
            _type_of(value, "") in types for value in find(item.value, report)
        )

    def _choice(self, node: Node, steps: Sequence[Step]) -> Node | None:
        """The choice that the path ends at, which only the names in the data tell the type of."""
        ends = said_at(node, steps, self._tree_of)
        return next((one.node for one in ends if one.node.is_choice), None)

    def _profile(self, node: Node, each: Node, steps: Sequence[Step]) -> Belongs:
        find = finder(node, steps, self._tree_of)
        is_reference = bool(steps) and steps[-1].function == "resolve"
        said = said_at(each, steps[:-1] if is_reference else steps, self._tree_of)
        profiles = [
            url
            for one in said
            for entry in one.node.element.get("type", ())
            for url in entry.get("targetProfile" if is_reference else "profile", ())
        ]
        if not profiles:
            raise ValueError("the slice has no profile where its discriminator looks")
        return lambda item, _index, report: any(
            self._fits(profile, value, report)
            for value in find(item.value, report)
            for profile in profiles
        )


def _type_of(value: Any, declared: str) -> str:
    """Of a resource, what it says itself."""
    return str(value.get("resourceType", declared)) if isinstance(value, dict) else declared


def _narrower(node: Node) -> str:
    """The value set that a slice itself binds as required, '' where it is R4's own or none."""
    binding = node.element.get("binding", {})
    if binding.get("strength") != "required" or binding == node.base.get("binding"):
        return ""
    return str(binding.get("valueSet", "")).partition("|")[0]

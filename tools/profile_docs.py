"""Write docs/profiles from the profiles: `make profile-docs`.

One page a profile, for people who know the service and not FHIR, one for the extensions, and an
overview. What stands there comes from `profile.json`, from R4's tables (cardinality), from the code
systems and from `beyond.md`, which says what the service checks beyond the profile.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fhir_server.fhir import canonicals
from fhir_server.fhir.definitions import PROFILES, ElementDefinition, type_definition

Json = dict[str, Any]
Element = Mapping[str, Any]

PAGES: Final = PROFILES.with_name("docs") / "profiles"
TERMINOLOGY: Final = PROFILES.with_name("terminology")
_R4: Final = "http://hl7.org/fhir/StructureDefinition/"
_OWN: Final = f"{canonicals.KW}/StructureDefinition/"
_VALUE_SETS: Final = f"{canonicals.KW}/ValueSet/"
_MOST_LISTED: Final = 15
_HEAD: Final = (
    "| Element | Number | What it means | Codes and values | Rules |\n|---|---|---|---|---|"
)
_SERVICE: Final = """## Checked by the service

What a resource alone does not show is the service's part, and no rule of this profile. Not all of
it is built yet."""
_LINKS: Final = "../../profiles"


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    found = {f"{name}.md": _page(name) for name in _names() if name.startswith("kw-")}
    return found | {"extensions.md": _extensions(), "README.md": _overview()}


def main() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    written = pages()
    for path in PAGES.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (PAGES / name).write_text(text, "utf-8")
    print(f"{len(written)} pages in {PAGES}")


def _names() -> list[str]:
    """Of the project's own: one that somebody has added has pages of its own, or none."""
    names = sorted(path.parent.name for path in PROFILES.glob("*/profile.json"))
    return [name for name in names if _definition(name)["url"].startswith(_OWN)]


def _definition(name: str) -> Json:
    return _load(PROFILES / name / "profile.json")


def _load(path: Path) -> Json:
    content: Json = json.loads(path.read_text("utf-8"))
    return content


# Pages -------------------------------------------------------------------------------------------


def _page(name: str) -> str:
    found = _definition(name)
    parts = [
        f"# {found['title']}\n\n{found['description']}",
        _identity(found),
        "## Elements\n\n" + _table(found),
        _rules(found),
        _beyond(name),
        _examples(name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _identity(found: Json) -> str:
    return (
        f"`{found['url']}`, version {found['version']}: a {found['type']} of FHIR R4 that is also "
        f"{_base(found)}. What the table does not name is as there."
    )


def _base(found: Json) -> str:
    base = found["baseDefinition"]
    if base.startswith(_OWN):
        name = base.removeprefix(_OWN)
        return f"a [{_definition(name)['title']}]({name}.md), whose rules it has too"
    kind = "a Goal as R4 has it (UK Core has none)" if base.startswith(_R4) else ""
    return kind or f"[{base.rpartition('/')[2]}]({base})"


def _table(found: Json) -> str:
    rows = [_row(_with_base(found, element)) for element in _elements(found)]
    return "\n".join([_HEAD, *rows])


def _elements(found: Json) -> Iterator[Element]:
    """Without those that only say how slices are told apart."""
    for element in found["differential"]["element"]:
        tells = {"short", "min", "max", "binding", "constraint", "sliceName", "type"}
        named = "." in element["id"] and not element["id"].endswith(".url")
        if named and (element.keys() & tells or "patternCode" in element):
            yield element


def _row(element: Element) -> str:
    keys = ", ".join(rule["key"] for rule in element.get("constraint", ()))
    cells = (
        _element_name(element),
        _number(element),
        element.get("short", ""),
        _values(element),
        keys,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _with_base(found: Json, element: Element) -> Element:
    """With what a profile of ours that it stands on says of the same element."""
    base = found["baseDefinition"]
    if not base.startswith(_OWN):
        return element
    inherited = _definition(base.removeprefix(_OWN))["differential"]["element"]
    same = [one for one in inherited if one["id"] == element["id"]]
    taken = {key: one[key] for one in same for key in ("min", "max", "short") if key in one}
    return {**taken, **element}


def _element_name(element: Element) -> str:
    """`category` (rating): an element, and which of its entries."""
    path = element["path"].partition(".")[2]
    slices = re.findall(r":([^.]+)", element["id"])
    return f"`{path}`" + (f" ({', '.join(slices)})" if slices else "")


def _number(element: Element) -> str:
    base = _in_r4(element["path"])
    sliced = "sliceName" in element
    least = element.get("min", 0 if sliced or base is None else base.min)
    most = element.get("max") or ("*" if base is None or base.max is None else str(base.max))
    return f"{least}..{most}"


def _in_r4(path: str) -> ElementDefinition | None:
    """None for what stands within a choice, whose type is known from the row above."""
    name, *steps = path.split(".")
    found = None
    for step in steps:
        choice = step.removesuffix("[x]")
        within = type_definition(name)
        key = within.choices[choice][0] if choice != step else step
        found = within.elements[key]
        name = found.type
    return found


def _values(element: Element) -> str:
    binding, types = element.get("binding"), element.get("type", ())
    said = [_bound(binding["valueSet"], binding["strength"])] if binding else []
    said += [_pattern(value) for key, value in element.items() if key.startswith("pattern")]
    said += [text for one in types if (text := _type(one))]
    return "; ".join(text for text in said if text)


def _bound(canonical: str, strength: str) -> str:
    codes = [code for _, part in _codes(canonical) for code in part]
    name = canonical.removeprefix(_VALUE_SETS)
    where = f"[{name}]({_LINKS.replace('profiles', 'terminology')}/{_file(name)})"
    listed = ", ".join(f"`{code}`" for code in codes[:_MOST_LISTED])
    more = f" and {len(codes) - _MOST_LISTED} more" if len(codes) > _MOST_LISTED else ""
    lead = "one of" if strength == "required" else "where it fits, one of"
    return f"{lead} {listed}{more} ({where})"


def _file(name: str) -> str:
    """The code system of the name says what its codes mean; a value set only lists some."""
    code_system = f"CodeSystem-{name}.json"
    return code_system if (TERMINOLOGY / code_system).exists() else f"ValueSet-{name}.json"


def _codes(canonical: str) -> Iterator[tuple[str, list[str]]]:
    """By system. A value set without a file is all codes of the system of its name."""
    name = canonical.removeprefix(_VALUE_SETS)
    path = TERMINOLOGY / f"ValueSet-{name}.json"
    every: list[Json] = [{"system": canonicals.code_system(name)}]
    for part in _load(path)["compose"]["include"] if path.exists() else every:
        system = str(part["system"])
        concepts: Any = part.get("concept") or _load(_system(system))["concept"]
        yield system, [concept["code"] for concept in concepts]


def _system(canonical: str) -> Path:
    return TERMINOLOGY / f"CodeSystem-{canonical.rpartition('/')[2]}.json"


def _pattern(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value}`"
    (coding,) = value.get("coding", [value])
    return f"`{coding['code']}` of {coding['system']}" if "code" in coding else ""


def _type(one: Mapping[str, Any]) -> str:
    if "targetProfile" in one:
        names = [target.rpartition("/")[2] for target in one["targetProfile"]]
        return "refers to a " + " or ".join(names)
    (profile,) = one.get("profile", [""])
    if not profile.startswith(_OWN):
        return f"[{profile.rpartition('/')[2]}]({profile})" if profile else f"a {one['code']}"
    name = profile.removeprefix(_OWN)
    page = f"{name}.md" if name.startswith("kw-") else f"extensions.md#{name}"
    return f"[{name}]({page})"


def _rules(found: Json) -> str:
    rules = [
        f"| `{rule['key']}` | {rule['severity']} | {rule['human']} |"
        for element in found["differential"]["element"]
        for rule in element.get("constraint", ())
    ]
    if not rules:
        return ""
    return "\n".join(["## Rules\n", "| Rule | If broken | What to do |\n|---|---|---|", *rules])


def _beyond(name: str) -> str:
    path = PROFILES / name / "beyond.md"
    return f"{_SERVICE}\n\n{path.read_text('utf-8').rstrip()}" if path.exists() else ""


def _examples(name: str) -> str:
    folder = PROFILES / name / "examples"
    valid = ", ".join(
        f"[{path.stem.removeprefix('valid-')}]({_LINKS}/{name}/examples/{path.name})"
        for path in sorted(folder.glob("valid-*.json"))
    )
    count = sum(1 for _ in folder.glob("invalid-*.outcome.json"))
    return (
        f"## Examples\n\nValid: {valid}. Invalid: [{count}, one for each rule]"
        f"({_LINKS}/{name}/examples), each with the outcome that is to be expected."
    )


def _extensions() -> str:
    found = [_definition(name) for name in _names() if not name.startswith("kw-")]
    return (
        "\n\n".join(
            ["# Extensions\n\nWhat R4 and UK Core have no element for.", *map(_extension, found)]
        )
        + "\n"
    )


def _extension(found: Json) -> str:
    on = ", ".join(context["expression"] for context in found["context"])
    parts = [
        f"## {found['id']}\n\n{found['description']}",
        f"`{found['url']}` on {on}.",
        _table(found),
        _rules(found).replace("## Rules\n\n", ""),
        _examples(found["id"]).replace("## Examples\n\n", ""),
    ]
    return "\n\n".join(part for part in parts if part)


def _overview() -> str:
    profiles = [_definition(name) for name in _names() if name.startswith("kw-")]
    rows = [
        f"| [{found['title']}]({found['id']}.md) | {found['type']} | {found['description']} |"
        for found in profiles
    ]
    return "\n".join(
        [_INTRODUCTION, "| Profile | Resource | What it is |\n|---|---|---|", *rows, "", _NOTES]
    )


_INTRODUCTION: Final = """# The keyworking profiles

What the keyworking service asks of resources, beyond FHIR R4 and UK Core: which elements have to
be there, which codes they take, and what has to agree with what. These pages are written from
[profiles](../../profiles) by `make profile-docs`. Twelve [extensions](extensions.md) carry what R4
and UK Core have no element for.
"""
_NOTES: Final = """How to read a page: *Number* says how often an element is there (`1..1` once,
`0..1` at most once, `1..*` at least once). A rule whose key is named is in words under *Rules*; an
*error* is a mistake, a *warning* is worth a look. *Checked by the service* is what one resource
alone cannot show, such as that nobody has two active ratings.

A resource says that it follows a profile in `meta.profile`.
[How to add one of your own](../adding-a-profile.md). `keyworking package` writes all of them, the
code systems and the examples as a FHIR package, for another server or a validator to load.
"""


if __name__ == "__main__":
    main()

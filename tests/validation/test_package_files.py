"""Packages are passed once at start; what is in them is read when it is asked for."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from fhir_server.checking import checker
from fhir_server.errors import FhirError, Kind
from fhir_server.fhir import filed, unzipped
from fhir_server.fhir import json as decoding
from fhir_server.fhir.unzipped import Unzipped
from fhir_server.settings import Settings
from fhir_server.terminology.held import SHELF
from fhir_server.terminology.known import KnownCodes, Verdict
from fhir_server.terminology.packaged import Packaged
from fhir_server.validation.checker import Checker
from fhir_server.validation.profiles import packages
from fhir_server.validation.profiles.library import Library
from fhir_server.validation.profiles.packages import BadPackage, definitions, read_package
from tests.fhir_operations.terms import SYSTEM, TREE, below, value_set
from tests.validation.profiles import URL, profile
from tests.validation.test_profile_data import MANIFEST, packed

MANY: Final = 400
PATIENT: Final = {"resourceType": "Patient", "meta": {"profile": [f"{URL}7"]}}


def large(number: int) -> dict[str, Any]:
    """A profile of some 20 kB."""
    about = [{"id": f"Patient.{name}", "short": "x" * 5000} for name in ("photo", "link", "name")]
    rule = {"id": "Patient.gender", "min": 1}
    return profile("Patient", rule, *about, url=f"{URL}{number}", version="1.0.0")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "many.tgz"
    trees = value_set("trees", below("oak"))
    return packed(path, MANIFEST, SYSTEM, trees, *map(large, range(MANY)))


def test_what_is_not_asked_for_is_not_in_memory(package: Path) -> None:
    tracemalloc.start()
    try:
        found = read_package(package)
        added = definitions(found.resources)
        packaged = Packaged(found.resources)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 2_000_000, "its JSON has six million bytes"
    assert Library(added).type_of(f"{URL}7") == "Patient"
    assert KnownCodes(packaged).other_names(TREE, "oak", "Elm")


def test_nothing_is_decoded_before_it_is_asked_for(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = decoding.decode_resource

    def counted(raw: bytes) -> Any:
        decoded.append(len(raw))
        return decode(raw)

    monkeypatch.setattr(decoding, "decode_resource", counted)
    resources = read_package(package).resources
    checking = Checker(Library(definitions(resources)), KnownCodes(Packaged(resources)))
    in_package = [size for size in decoded if size > 15_000]
    assert in_package == []
    assert [each for each in checking.library.of_resources()["Patient"] if each.startswith(URL)]
    assert [size for size in decoded if size > 15_000] == []
    errors = checking.check(PATIENT).errors
    assert [one.expression for one in errors] == ["Patient.gender"]
    assert len([size for size in decoded if size > 15_000]) == 1


def test_codes_of_a_package_are_read_when_they_are_asked_for(package: Path) -> None:
    known = KnownCodes(Packaged(read_package(package).resources))
    url = value_set("trees", below("oak"))["url"]
    assert known.verdict(url, TREE, "oak") is Verdict.YES
    assert known.verdict(url, TREE, "stone") is Verdict.NO
    assert known.other_names(TREE, "oak", "Elm") == ("Oak tree", "Derwen")
    assert SHELF.get(next(one.digest for one in read_package(package).resources)) is not None


def test_a_package_that_is_replaced_stays_the_one_that_was_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tgz", MANIFEST, large(1))
    (found,) = read_package(path).resources
    other = packed(tmp_path / "b.tgz", MANIFEST, {"resourceType": "Basic"})
    other.replace(path)
    assert dict(found) == large(1)


def test_what_is_broken_behind_its_heading_refuses_and_does_not_fail(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON is well formed, as it was passed; what R4 adds is looked at when it is read."""
    resources = read_package(package).resources
    checking = Checker(Library(definitions(resources)))

    def broken(_raw: bytes) -> Any:
        raise FhirError(Kind.MALFORMED, "too deep")

    monkeypatch.setattr(decoding, "decode_resource", broken)
    filed._content.cache_clear()
    (issue,) = checking.check(PATIENT).errors
    assert issue.text.endswith("of the package many.tgz is no resource: too deep")


def with_content(path: Path, content: bytes, change: Callable[[bytes], bytes] = bytes) -> Path:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, file in (("package.json", json.dumps(MANIFEST).encode()), ("a.json", content)):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(file)
            archive.addfile(member, io.BytesIO(file))
    path.write_bytes(change(whole.getvalue()))
    return path


@pytest.mark.parametrize(
    ("content", "change", "says"),
    [
        (b"{", gzip.compress, "a.json is no resource"),
        (b"[]", gzip.compress, "a.json is no resource"),
        (b"{}", lambda whole: gzip.compress(whole)[:-20], "ends too early"),
        (b"{}", lambda whole: gzip.compress(whole)[:-8] + b"00000000", "is no FHIR package"),
        (b"{}", lambda whole: whole, "is no FHIR package"),
        (b"{}", lambda whole: gzip.compress(whole * 20_000), "more than 100000000 bytes"),
    ],
)
def test_a_broken_file_is_told_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    change: Callable[[bytes], bytes],
    says: str,
) -> None:
    monkeypatch.setattr(packages, "_MAX_TOTAL", 100_000_000)
    with pytest.raises(BadPackage, match=says):
        read_package(with_content(tmp_path / "a.tgz", content, change))


def test_members_of_a_gzip_file_and_zeros_after_them_are_one_content(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one") + b"\0" * 20_000 + gzip.compress(b"two") + b"\0" * 9)
    content = Unzipped(path, 1000)
    assert content.read() == b"onetwo"
    assert content.at(2, 2) == b"et"


def test_any_part_can_be_read_by_several_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unzipped, "_APART", 50_000)
    whole = b"".join(sha256(b"%d" % number).digest() for number in range(30_000))
    (tmp_path / "a.gz").write_bytes(gzip.compress(whole))
    content = Unzipped(tmp_path / "a.gz", 2_000_000)
    assert content.read() == whole
    assert len(content._states) > 10
    asked = [(number * 7919 % 950_000, number * 31 % 3000) for number in range(300)]
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda one: content.at(*one), asked)]
    assert found == [whole[at : at + size] for at, size in asked]


def test_a_server_starts_with_a_package(package: Path) -> None:
    settings = Settings(auth="none", packages=(str(package),))
    (issue,) = checker(settings).check(PATIENT).errors
    assert issue.expression == "Patient.gender"

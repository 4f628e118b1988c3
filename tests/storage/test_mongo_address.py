"""The address of a MongoDB store: what is refused and how, TLS, users, and nothing secret told."""

import datetime
import ipaddress
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, OperationFailure, WriteConcernError, WTimeoutError

from fhir_server.cli import main
from fhir_server.errors import FhirError, Kind
from fhir_server.storage.mongo.address import masked
from fhir_server.storage.mongo.faults import refused
from fhir_server.storage.mongo.store import open_mongo
from tests.mongo import MongoProcess
from tests.storage.questions import found, patient, put

SECRET: Final = "hidden"
LABELLED: Final = {"errorLabels": ["TransientTransactionError"]}
WRONG: Final = [
    ("mongodb://me:hidden@127.0.0.1:1/kw?tls=true&tlsCAFile=/none.pem", "No such file"),
    ("mongodb://me:hidden@127.0.0.1:1/kw?tls=true&tlsCAFile=FILE", "certificate"),
    ("mongodb://me:hidden@127.0.0.1:1/kw?tls=true&tlsCertificateKeyFile=/none.pem", "No such file"),
    ("mongodb://me:hid/hidden@127.0.0.1:1/kw", "names no database"),
    ("mongodb://me:hid?hidden@127.0.0.1:1/kw", "names no database"),
    ("mongodb://me:hidden@127.0.0.1:x/kw", "Port contains non-digit"),
    ("mongodb://me:hidden@[/kw", "is no address"),
    ("mongodb://me:hidden\u2100@127.0.0.1/kw", "is no address"),
    ("mongodb://me:hidden%ret@127.0.0.1/kw", "must be escaped"),
    ("mongodb://me:hidden@127.0.0.1/kw?tsl=true", "Unknown option: tsl"),
    ("mongodb://me:hidden@127.0.0.1/kw?tls=yes", "'true' or 'false'"),
    ("mongodb://me:hidden@127.0.0.1/kw?authMechanism=X", "authmechanism must be in"),
    ("mongodb://me:hidden@127.0.0.1/kw?readPreference=secondary", "readPreference"),
]


@pytest.mark.parametrize(("address", "words"), WRONG)
@pytest.mark.parametrize("command", ["serve", "reindex", "check"])
def test_a_wrong_address_is_told_on_one_line_and_nothing_secret_with_it(
    command: str, address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "no.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("KEYWORKING_STORE", address.replace("FILE", str(file)))
    arguments = ["--auth", "none", "--port", "18099"] if command == "serve" else []
    result = CliRunner().invoke(main, [command, *arguments], catch_exceptions=False)
    assert result.exit_code in (1, 2), result.output
    assert len(result.stderr.splitlines()) == 1, result.output
    assert words in result.stderr
    assert SECRET not in result.output


@pytest.mark.parametrize(("address", "words"), WRONG)
async def test_nor_is_it_in_what_an_error_comes_with(address: str, words: str) -> None:
    if "FILE" in address:
        address = address.replace("FILE", __file__)
    with pytest.raises(ValueError, match=words) as caught:
        await open_mongo(address)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_is_secret_in_an_address_is_masked() -> None:
    for address in (
        "mongodb://me:secret@a,b:1/kw?replicaSet=rs",
        "mongodb://me:se%40cret@a/kw",
        "mongodb://me:se/cret@a/kw",
        "mongodb://me:se@cret@a/kw",
        "mongodb+srv://me:secret@a.b/kw",
        "mongodb://a/kw?authMechanism=X&tlsCertificateKeyFilePassword=secret&w=1",
        "mongodb://a/kw?authMechanismProperties=AWS_SESSION_TOKEN:secret&w=1",
    ):
        assert "secret" not in masked(address)
        assert "cret" not in masked(address)
        assert masked(address).startswith("mongodb")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AutoReconnect("gone"), Kind.UNAVAILABLE),
        (OperationFailure("stepped down", 189), Kind.UNAVAILABLE),
        (OperationFailure("conflict", 112), Kind.UNAVAILABLE),
        (
            OperationFailure("a label", 1, {"errorLabels": ["TransientTransactionError"]}),
            Kind.UNAVAILABLE,
        ),
        (WTimeoutError("majority", 64), Kind.UNAVAILABLE),
        (WriteConcernError("majority", 100), Kind.UNAVAILABLE),
        (OperationFailure("not authorized on db1", 13), Kind.INTERNAL),
        (OperationFailure("validation", 121), Kind.INTERNAL),
    ],
)
def test_what_passes_is_told_apart_from_what_does_not(
    error: Exception, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        told = refused(error, "read")
    assert told.kind is kind
    assert str(error) not in str(told)
    of_the_network = isinstance(error, AutoReconnect)
    assert (str(error) in caplog.text) == of_the_network, "the others may quote what is stored"
    assert type(error).__name__ in caplog.text


# TLS


def certificates(folder: Path) -> None:
    """`ca.pem`, `other.pem` (which has signed nothing), `server.pem` and its key."""
    now = datetime.datetime.now(datetime.UTC)

    def made(name: str, issuer: Any, signer: Any, key: Any, *, is_ca: bool) -> Any:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(issuer or subject, subject, key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return builder.add_extension(names, critical=False).sign(signer, hashes.SHA256())

    def kept(name: str, certificate: Any) -> None:
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    key, of_server, of_other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    authority = made("ca", None, key, key, is_ca=True)
    kept("ca.pem", authority)
    kept("other.pem", made("other", None, of_other, of_other, is_ca=True))
    kept("server.pem", made("server", authority.subject, key, of_server, is_ca=False))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        of_server.private_bytes(serialization.Encoding.PEM, form, plain)
    )


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[MongoProcess]:
    certificates(tmp_path)
    files = ["--tls-cert-file", "server.pem", "--tls-key-file", "key.pem"]
    options = [one if one.startswith("--") else str(tmp_path / one) for one in files]
    process = MongoProcess(tmp_path, *options)
    process.start()
    yield process
    process.kill()


async def test_tls_by_the_address(tls: MongoProcess) -> None:
    url = f"{tls.url('kw')}?serverSelectionTimeoutMS=5000"
    store = await open_mongo(f"{url}&tls=true&tlsCAFile={tls.folder}/ca.pem")
    await put(store, patient("a", "Ash"))
    assert await found(store, "Patient?family=ash") == ["a"]
    await store.close()
    short = url.replace("5000", "1500")
    with pytest.raises(RuntimeError, match="the TLS connection to MongoDB fails"):
        await open_mongo(f"{short}&tls=true&tlsCAFile={tls.folder}/other.pem")
    with pytest.raises(FhirError) as caught:
        await open_mongo(short)
    assert caught.value.kind is Kind.UNAVAILABLE


# Users


async def test_users_by_the_address(tmp_path: Path) -> None:
    process = MongoProcess(tmp_path)
    process.start()
    with MongoClient[dict[str, Any]](process.url("")) as client:
        roles = [{"role": "readWrite", "db": "kw"}, {"role": "dbAdmin", "db": "kw"}]
        client.admin.command("createUser", "me", pwd=SECRET, roles=roles)
    process.stop()
    process = MongoProcess(tmp_path, "--auth")
    process.start()
    try:
        named = process.url("kw").replace("//", f"//me:{SECRET}@") + "?authSource=admin"
        store = await open_mongo(named)
        await put(store, patient("a", "Ash"))
        assert await found(store, "Patient?family=ash") == ["a"]
        await store.close()
        for wrong in (process.url("kw"), named.replace(SECRET, "hidden2")):
            with pytest.raises(RuntimeError, match="does not let the user of the address") as no:
                await open_mongo(wrong)
            assert SECRET not in "".join(traceback.format_exception(no.value))
    finally:
        process.kill()

"""`keyworking serve` over TLS, with certificates of the test's own, against real sockets."""

import asyncio
import ipaddress
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fhir_server.serving import BadSettings, serve
from fhir_server.setting_groups.around import tls_context
from fhir_server.settings import Settings
from tests.support import REPOSITORY, ServerProcess, free_port

PASSWORD: Final = "the-password-of-the-key"


class Authority:
    """Signs certificates for servers on loopback and for clients."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(self._name, self._key.public_key(), authority=True)
        self.file = folder / f"{name.replace(' ', '-')}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, password: str = "") -> tuple[Path, Path]:
        """Files of a certificate for loopback and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), authority=False)
        form: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            form = serialization.BestAvailableEncryption(password.encode())
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        files[1].write_bytes(key.private_bytes(pem, pkcs8, form))
        return files

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def serving(
    tmp_path: Path, authority: Authority, **settings: Any
) -> Iterator[tuple[int, ServerProcess]]:
    """The port of a server over TLS."""
    named = {f"KEYWORKING_{name.upper()}": str(value) for name, value in settings.items()}
    process = ServerProcess(tmp_path / "tls.db", tmp_path / "tls.log", **named)
    process.trust = _trusting(authority)
    process.start()
    try:
        yield process.port, process
    finally:
        process.stop()


def _trusting(authority: Authority, **more: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    for name, value in more.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("workers", [1, 2])
def test_serves_over_tls(tmp_path: Path, authority: Authority, workers: int) -> None:
    certificate, key = authority.issue(f"server-{workers}", PASSWORD)
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    with serving(
        tmp_path,
        authority,
        tls_certificate=certificate,
        tls_key=key,
        tls_key_password_file=file,
        workers=workers,
    ) as (port, process):
        base = f"https://127.0.0.1:{port}/fhir"
        found = httpx.get(f"{base}/Patient", verify=_trusting(authority))
        assert found.status_code == 200
        assert found.json()["link"][0]["url"] == f"{base}/Patient"
        assert found.headers["strict-transport-security"] == "max-age=31536000"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/fhir/Patient")
        assert PASSWORD not in process.logged()
        assert PASSWORD.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("minimum", "spoken", "works"),
    [
        ("1.2", ssl.TLSVersion.TLSv1_1, False),
        ("1.2", ssl.TLSVersion.TLSv1_2, True),
        ("1.2", ssl.TLSVersion.TLSv1_3, True),
        ("1.3", ssl.TLSVersion.TLSv1_2, False),
        ("1.3", ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_older_versions_of_tls_are_not_spoken(
    authority: Authority, minimum: str, spoken: ssl.TLSVersion, works: bool
) -> None:
    certificate, key = authority.issue("version")
    settings = Settings(
        auth="none",
        tls_certificate=certificate,
        tls_key=key,
        tls_minimum=minimum,  # type: ignore[arg-type]
    )
    client = _trusting(authority, minimum_version=spoken, maximum_version=spoken)
    if spoken is ssl.TLSVersion.TLSv1_1:
        client.set_ciphers("DEFAULT@SECLEVEL=0")  # else the client itself would refuse
    assert await _shakes_hands(settings, client) == works


async def _shakes_hands(settings: Settings, client: ssl.SSLContext) -> bool:
    """Whether client and server find to each other, and the server then says something."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    context = tls_context(settings)
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            heard = await reader.read()
        except (ssl.SSLError, ConnectionError):
            return False
        writer.close()
        return heard == b"hello"


async def test_a_client_needs_a_certificate_where_the_settings_say_so(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("mutual")
    settings = Settings(
        auth="none", tls_certificate=certificate, tls_key=key, tls_client_ca=authority.file
    )
    known, unknown, none = (_trusting(authority) for _ in range(3))
    known.load_cert_chain(*authority.issue("client"))
    unknown.load_cert_chain(*Authority(tmp_path, "Somebody else").issue("stranger"))
    assert await _shakes_hands(settings, known)
    assert not await _shakes_hands(settings, unknown)
    assert not await _shakes_hands(settings, none)


def _files(authority: Authority, tmp_path: Path) -> dict[str, Path]:
    good, locked = authority.issue("good"), authority.issue("locked", PASSWORD)
    text = tmp_path / "text"
    text.write_text("This is no certificate")
    return {
        "certificate": good[0],
        "key": good[1],
        "locked": locked[1],
        "locked_certificate": locked[0],
        "text": text,
        "nowhere": tmp_path / "nowhere",
        "folder": tmp_path,
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"certificate": "certificate"}, ("tls_certificate and tls_key go together",)),
        ({"key": "key"}, ("tls_certificate and tls_key go together",)),
        ({"client_ca": "certificate"}, ("go with tls_certificate",)),
        ({"certificate": "nowhere", "key": "key"}, ("tls_certificate", "No such file")),
        ({"certificate": "certificate", "key": "nowhere"}, ("tls_key", "No such file")),
        ({"certificate": "folder", "key": "key"}, ("tls_certificate", "directory")),
        ({"certificate": "text", "key": "key"}, ("not a certificate and its key",)),
        ({"certificate": "certificate", "key": "text"}, ("not a certificate and its key",)),
        ({"certificate": "certificate", "key": "locked"}, ("tls_key_password",)),
        ({"certificate": "locked_certificate", "key": "key"}, ("MISMATCH",)),
        (
            {"certificate": "certificate", "key": "key", "client_ca": "text"},
            ("tls_client_ca", "holds no certificates"),
        ),
        (
            {"certificate": "certificate", "key": "key", "client_ca": "nowhere"},
            ("tls_client_ca", "No such file"),
        ),
    ],
)
def test_files_that_do_not_fit_are_told_at_start(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    authority: Authority,
    given: dict[str, str],
    words: tuple[str, ...],
) -> None:
    files = _files(authority, tmp_path)
    monkeypatch.chdir(tmp_path)
    options = {f"tls_{name}": files[value] for name, value in given.items()}
    with pytest.raises(BadSettings) as caught:
        serve({"auth": "none", "port": free_port(), **options}, synthetic_caseload=False)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_key_without_its_password_does_not_ask_on_the_terminal(
    tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("asks", PASSWORD)
    command = [sys.executable, "-c", "from fhir_server.cli import main; main()", "serve"]
    environment = {
        "KEYWORKING_TLS_CERTIFICATE": str(certificate),
        "KEYWORKING_TLS_KEY": str(key),
        "KEYWORKING_TLS_KEY_PASSWORD": "wrong-" + PASSWORD,
        "KEYWORKING_STORE": f"sqlite:///{tmp_path}/a.db",
        "PYTHONPATH": str(REPOSITORY),
    }
    ran = subprocess.run(
        [*command, "--auth", "none", "--port", str(free_port())],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "tls_key_password is not the key's" in ran.stderr
    assert PASSWORD not in ran.stderr + ran.stdout


def test_a_port_that_speaks_tls_survives_who_does_not(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("survives")
    with serving(tmp_path, authority, tls_certificate=certificate, tls_key=key) as (port, _):
        for nonsense in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x00\x01\x00",
            b"",
            b"x" * 65_536,
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(nonsense)
        base = f"https://127.0.0.1:{port}/fhir"
        assert httpx.get(f"{base}/metadata", verify=_trusting(authority)).status_code == 200

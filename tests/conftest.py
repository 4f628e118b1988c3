"""A server within the test's own loop, and one in a process of its own."""

import gc
import os
import shutil
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Final, Protocol

import httpx
import hypothesis
import pytest

from fhir_server.access.policy import Caller, Policy
from fhir_server.access.session import Session
from fhir_server.app import ANONYMOUS, Application, create_app
from fhir_server.http.messages import HttpRequest
from fhir_server.settings import Settings
from fhir_server.storage.interface import Store
from tests.mongo import stop_mongo
from tests.places import share_bytecode, write_to_memory
from tests.stores import KINDS, MONGODB, on_both, on_store, store_at
from tests.support import ServerProcess

# Each request of httpx asks whether it runs under Trio, and looks for that through all of the path.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# A change is judged by the same examples each time; the nightly form looks for new ones. How
# long one takes is the machine's business.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None)
hypothesis.settings.register_profile("nightly", derandomize=False, deadline=None)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
hypothesis.settings.load_profile(_PROFILE)
if _PROFILE == "default":
    write_to_memory()
_BYTECODE: Final = share_bytecode()

# Made once: to read the environment takes a quarter of a server's start.
_SMALL: Final = Settings(
    auth="none", max_body=256 * 1024, max_entries=50, max_count=100, scheduler=False
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are made here, and stay: to look for garbage among them is wasted."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


def pytest_unconfigure() -> None:
    if _BYTECODE is not None:
        shutil.rmtree(_BYTECODE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _mongo_server() -> Iterator[None]:
    """The first test that needs MongoDB starts it; here it is stopped."""
    with on_store(KINDS[0]):
        yield
    stop_mongo()


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:  # noqa: ARG001
    """Bytes by their number: every process collects the same names, and gzip tells the time."""
    return None if not isinstance(val, bytes) or val.isascii() else f"{len(val)} bytes"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of both stores, where their server is their own."""
    alone = metafunc.definition.get_closest_marker("sqlite_alone") is not None
    own = "tmp_path" in metafunc.fixturenames and "server" not in metafunc.fixturenames
    if own and not alone and on_both(metafunc.definition.path):
        metafunc.parametrize("_store_kind", KINDS, indirect=True)


@pytest.fixture(autouse=True)
def _store_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """What `store_at` gives while the test runs."""
    kind: str = getattr(request, "param", KINDS[0])
    if kind == MONGODB and request.node.get_closest_marker("sqlite_alone") is not None:
        pytest.skip("of the SQLite store alone")
    with on_store(kind):
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Small enough bounds that tests reach them."""
    return _SMALL.model_copy(update={"store": store_at(tmp_path / "test.db")})


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Application]:
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
def store(app: Application) -> Store:
    store: Store = app.state.store
    return store


@pytest.fixture
async def client(app: Application, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Its relative addresses are relative to the FHIR base."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=settings.base + "/") as client:
        yield client


class Restrict(Protocol):
    def __call__(self, policy: Policy, name: str = ANONYMOUS) -> None:
        """From now on, whoever asks is under that policy, and of that name."""


@pytest.fixture
def restrict(app: Application, store: Store) -> Restrict:
    def under(policy: Policy, name: str = ANONYMOUS) -> None:
        def open_session(request: HttpRequest) -> Session:
            rules = app.state.server.rules
            return Session(store, Caller(name, request.request_id), policy, rules=rules)

        assert app.fhir is not None
        app.fhir._open_session = open_session

    return under


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`keyworking serve`, the same one for all tests that ask for it."""
    folder = tmp_path_factory.mktemp("server")
    process = ServerProcess(folder / "server.db", folder / "server.log")
    try:
        process.start()
        yield process
    finally:
        process.stop()

"""Settings: environment variables `KEYWORKING_*`, read once, frozen.

A value that does not fit, or a name that is not known, is an error at start.
"""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from fhir_server.fhir.definitions import is_resource_type
from fhir_server.fhir.json import MAX_DEPTH
from fhir_server.setting_groups import secrets, tokens
from fhir_server.setting_groups.addresses import is_loopback as is_loopback
from fhir_server.setting_groups.addresses import wrong_with_base
from fhir_server.setting_groups.around import AroundSettings
from fhir_server.setting_groups.audit import AuditSettings
from fhir_server.setting_groups.authorisation import AuthorisationSettings
from fhir_server.setting_groups.clock import ClockSettings
from fhir_server.setting_groups.consent import ConsentSettings
from fhir_server.setting_groups.notices import NoticeSettings, require_origin
from fhir_server.setting_groups.pathway import PathwaySettings
from fhir_server.setting_groups.secrets import SecretFiles
from fhir_server.setting_groups.tokens import TokenSettings
from fhir_server.storage.mongo.address import database_name, is_mongo, masked
from fhir_server.validation.profiles.claims import LENIENT, read_requirement

PREFIX = "KEYWORKING_"
PATH = "/fhir"
"""Where the FHIR interface stands below the host."""
AUTHORISATION_PATH = "/auth"
"""Where the built-in authorisation server stands beside it."""
_FILLED: Final = ("operations", *tokens.LISTS)
"""Lists that may not be empty."""
_FOR_TESTS: Final = PREFIX + "TEST_"


class Settings(
    AuthorisationSettings,
    ConsentSettings,
    TokenSettings,
    AroundSettings,
    AuditSettings,
    PathwaySettings,
    ClockSettings,
    NoticeSettings,
):
    """What can be set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # the address of a store may have a password in it
    )

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    store: Annotated[str, Field(repr=False)] = "sqlite:///./var/keyworking.db"
    """`sqlite:///relative/path`, `sqlite:////absolute/path` or `mongodb://hosts/database`."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Server processes on the one store."""
    auth: Literal["none", "token"] | None = None
    """`token`: whoever asks shows a token. `none`: without tokens, on loopback only."""
    public_base: str = ""
    """The FHIR base that clients use, such as https://fhir.example.nhs.uk/fhir, when it is not
    the host and port that the server listens on."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks of proxies whose word on the client's address is taken, separated by
    commas; links stand on it where `public_base` is not set."""
    operations: Annotated[tuple[str, ...], NoDecode] = ("operations", "fhir_operations")
    """Python packages with operations, separated by commas."""
    max_body: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Bytes of a request's body."""
    max_url: Annotated[int, Field(ge=256, le=65_535)] = 65_535
    """Bytes of a request's address with its query."""
    max_headers: Annotated[int, Field(ge=10)] = 100
    """Headers of a request."""
    max_header_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024
    """Bytes of the headers of a request, names and values together."""
    max_parameters: Annotated[int, Field(ge=1)] = 100
    """Parameters of a query or form."""
    max_values: Annotated[int, Field(ge=1)] = 1000
    """Values of a search, those that are separated by commas each counted."""
    max_depth: Annotated[int, Field(ge=10, le=MAX_DEPTH)] = MAX_DEPTH
    """Levels of objects and arrays in a body."""
    max_patch: Annotated[int, Field(ge=1)] = 1000
    """Operations of a patch."""
    max_entries: Annotated[int, Field(ge=1)] = 1000
    """Entries of a transaction or batch."""
    conditional_delete: Literal["single", "multiple"] = "single"
    """What a delete by criteria may find: one resource, or several at once."""
    if_match_required: Annotated[tuple[str, ...], NoDecode] = (
        "CarePlan",
        "Goal",
        "Consent",
        "EpisodeOfCare",
        "Flag",
    )
    """Resource types that are changed and deleted with `If-Match` alone, separated by commas."""
    default_count: Annotated[int, Field(ge=1)] = 50
    """Matches on a page when `_count` is not given."""
    max_count: Annotated[int, Field(ge=1)] = 1000
    """Matches on a page at the most."""
    max_includes: Annotated[int, Field(ge=1)] = 1000
    """Resources that includes may add to a page."""
    max_chain: Annotated[int, Field(ge=1, le=10)] = 5
    """Steps from resource to resource in one criterion of a search."""
    max_codes: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Codes that the value sets in one search may come to."""
    terminology_server: str = ""
    """FHIR base of a terminology server that is asked about codes that are not known here, such
    as SNOMED CT; https, or http on this machine. None by default."""
    terminology_patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    """Seconds that an answer of the terminology server may take."""
    terminology_memory: Annotated[int, Field(ge=1024 * 1024)] = 48 * 1024 * 1024
    """Bytes of memory, about, for code systems and value sets that were read from the store or a
    package; a concept of a loaded code system takes some 3,000."""
    publish: bool = True
    """Whether `keyworking serve` stores the project's profiles and terminology at start, where
    they are not there or older."""
    page_lifetime: Annotated[int, Field(ge=1)] = 3600
    """Seconds for which a link to a further page is good."""
    job_lifetime: Annotated[int, Field(ge=1)] = 24 * 3600
    """Seconds after which an asynchronous job and its files are gone."""
    job_concurrency: Annotated[int, Field(ge=0, le=64)] = 2
    """Jobs that one server process works at; 0 leaves them to others."""
    job_lease: Annotated[float, Field(ge=0.1, allow_inf_nan=False)] = 15.0
    """Seconds after which another process takes the jobs of one that was killed."""
    job_patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 300.0
    """Seconds that a search of a job may take."""
    max_jobs: Annotated[int, Field(ge=1)] = 20
    """Unfinished jobs of one caller."""
    max_import: Annotated[int, Field(ge=1024)] = 1024 * 1024 * 1024
    """Bytes of the lines that one `$import` takes."""
    import_from: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins from which `$import` fetches files, separated by commas; none by default."""
    repeat_lifetime: Annotated[int, Field(ge=1)] = 24 * 60 * 60
    """Seconds for which a POST that is sent again is known by its `X-Request-ID`."""
    search_patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Seconds that a search may take."""
    write_patience: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Seconds that a write waits for one of another process."""

    mongodb_read_from: Literal["primary", "secondary"] = "primary"
    """`secondary`: plain reads, searches and histories of callers who may see everything may be
    answered by a member that is some moments behind; all else is the primary's."""
    packages: Annotated[tuple[str, ...], NoDecode] = ()
    """Files `.tgz` with FHIR packages, or folders of them, separated by commas."""
    required_profiles: Annotated[tuple[str, ...], NoDecode] = ()
    """Profiles that resources have to fit beside those that they claim, separated by commas:
    `Type=profile` or `Type:element=system|code=profile`."""
    keyworking_profiles: bool = True
    """Whether what is of the keyworking service has to fit the service's own profiles."""
    lenient_profiles: Annotated[tuple[str, ...], NoDecode] = LENIENT
    """Profiles whose rules only warn; one that ends in `*` stands for all that begin so."""
    unknown_profiles: Literal["warn", "refuse"] = "warn"
    """What is done with a resource that claims a profile that is not known here."""

    keep_history: Annotated[int | None, Field(ge=1)] = None
    """Days for which `keyworking prune` keeps a version that another has taken the place of;
    without it, all are kept."""
    keep_versions: Annotated[int | None, Field(ge=1)] = None
    """Newest versions of each resource that `keyworking prune` keeps, however old they are."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options of the command line, the environment, then files that the environment names."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, object]) -> dict[str, object]:
        for name, field in cls.model_fields.items():
            text = values.get(name)
            if NoDecode in field.metadata and isinstance(text, str):
                values[name] = tuple(part.strip() for part in text.split(","))
                if name not in _FILLED and values[name] == ("",):
                    values[name] = ()
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_store(self.store)
        if self.mongodb_read_from != "primary" and not is_mongo(self.store):
            raise ValueError(
                f"mongodb_read_from '{self.mongodb_read_from}' is for a MongoDB store, and a "
                "SQLite store has no other member to read from"
            )
        if self.auth == "none" and not is_loopback(self.host):
            raise ValueError(
                f"auth 'none' serves on loopback only, and {self.host} is not loopback; "
                "use 127.0.0.1, ::1 or localhost"
            )
        self.require_audit(self.auth)
        self.require_clock(self.auth)
        if self.auth == "token":
            self.require_tokens(built_in=self.authorisation_server)
        if self.port == 0:
            raise ValueError("port 0 would be one that nobody is told of; choose one from 1 on")
        if self.default_count > self.max_count:
            raise ValueError(
                f"default_count {self.default_count} is above max_count {self.max_count}"
            )
        if self.public_base:
            _require_base(self.public_base)
        if self.terminology_server:
            _require_terminology_server(self.terminology_server)
        _require_packages(self.operations)
        for origin in self.import_from:
            require_origin("import_from", origin, "https://files.example.nhs.uk")
        _require_types("if_match_required", self.if_match_required)
        for text in self.required_profiles:
            _require_types("required_profiles", (read_requirement(text)[0],))
        _require_networks(self.trusted_proxies)
        return self

    @property
    def base(self) -> str:
        """The FHIR base without a slash at its end."""
        if self.public_base:
            return self.public_base.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{PATH}"

    @property
    def authorisation(self) -> str:
        """The address of the built-in authorisation server, without a slash at its end."""
        return self.authorisation_base.rstrip("/") or beside(self.base)


def beside(base: str) -> str:
    """The address of the authorisation server that stands beside a FHIR base."""
    return base.rstrip("/").removesuffix(PATH) + AUTHORISATION_PATH


def read_settings(options: Mapping[str, object]) -> Settings:
    """The settings of the environment, with options of the command line before them.

    Raises:
        ValueError: with everything that does not fit, on one line.
    """
    refuse_unknown_variables()
    try:
        return Settings(**dict(options))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError("; ".join(map(_problem, error.errors()))) from None


def _problem(error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


def refuse_unknown_variables() -> None:
    """A misspelt variable would otherwise be a setting that silently does not hold.

    Raises:
        ValueError: naming the variable and those that exist.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    known |= {PREFIX + name.upper() + secrets.SUFFIX for name in secrets.secrets(Settings)}
    seen: dict[str, str] = {}
    for name in variables():
        if name.upper() not in known:
            raise ValueError(f"{name} is not a setting; there are {', '.join(sorted(known))}")
        other = seen.setdefault(name.upper(), name)
        if other != name:
            raise ValueError(f"{other} and {name} are the same setting; give one of them")


def variables() -> Iterator[str]:
    """The names in the environment that are read as settings: in any case, as pydantic does."""
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and not name.upper().startswith(_FOR_TESTS):
            yield name


def _require_base(address: str) -> None:
    wrong = wrong_with_base(address)
    if wrong:
        raise ValueError(f"public_base {wrong}; https://fhir.example.nhs.uk/fhir is one")


def _require_terminology_server(address: str) -> None:
    wrong = wrong_with_base(address)
    parts = urlsplit(address) if not wrong else None
    if parts is not None and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        wrong = "is http, which is for this machine only"
    if wrong:
        raise ValueError(f"terminology_server {wrong}; https://terms.example.nhs.uk/fhir is one")


def _require_packages(names: tuple[str, ...]) -> None:
    for name in names:
        if not name:
            raise ValueError("operations has a blank name; give names of packages, with commas")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"operations: '{name}' is not the name of a package")


def _require_networks(texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ValueError(
                f"trusted_proxies: '{text}' is not an address or network such as 10.0.0.7 or "
                f"10.1.0.0/16: {error}"
            ) from None


def _require_types(setting: str, names: tuple[str, ...]) -> None:
    for name in names:
        if not is_resource_type(name):
            raise ValueError(f"{setting}: '{name}' is not a resource type of FHIR R4")


def _require_store(store: str) -> None:
    if is_mongo(store):
        database_name(store)
    else:
        sqlite_path(store)


def store_name(store: str) -> str:
    """The store as people may read it: its file, or its address without what is secret."""
    return masked(store) if is_mongo(store) else str(sqlite_path(store))


def sqlite_path(store: str) -> Path:
    """The file of a `sqlite:///` URL.

    Raises:
        ValueError: for any other URL.
    """
    head = "sqlite:///"
    if not store.startswith(head) or store.removeprefix(head) in ("", ":memory:"):
        raise ValueError(
            f"'{masked(store)}' is not a store; sqlite:///relative/path, sqlite:////absolute/path "
            "and mongodb://host/database are"
        )
    return Path(store.removeprefix(head))

"""The command line of the built-in authorisation server: `keyworking client | key | token`."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fhir_server.story import DEFAULT_SERVER

T = TypeVar("T")
_STORE: Final = click.option("--store", help="sqlite:///./var/keyworking.db or the like.")
_ROLES: Final = ("auditor", "administrator", "commissioner", "cetr-panel", "load-test")


def _one_line(command: Callable[..., T]) -> Callable[..., T]:
    """What cannot be done is told on one line, with exit status 1."""

    @wraps(command)
    def told(**options: Any) -> T:
        from fhir_server.registering import CannotRegister

        try:
            return command(**options)
        except CannotRegister as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)

    return told


@click.group()
def client() -> None:
    """Machines that may ask the built-in authorisation server for tokens.

    Each ends with exit status 1 where it could not be done.
    """


@client.command("add")
@click.argument("client_id")
@click.option("--name", default="", help="What people call it.")
@click.option("--jwks", type=click.Path(path_type=Path), help="File with its public key set.")
@click.option("--jwks-url", default="", help="https address of its public key set.")
@click.option(
    "--scope", "scopes", multiple=True, help="The most it is granted, such as system/CarePlan.rs."
)
@click.option("--ods", default="", help="ODS code of the organisation that it acts for.")
@click.option("--role", "roles", multiple=True, help=f"{', '.join(_ROLES)}.")
@click.option("--purpose", "purposes", multiple=True, help="Purpose of use, such as TREAT.")
@click.option("--user", default="", help="The one person who uses it: Practitioner/12.")
@click.option("--patient", default="", help="Id of the one patient of its patient/ scopes.")
@click.option("--introspects", is_flag=True, help="It may ask about the tokens of all clients.")
@click.option("--replace", is_flag=True, help="In place of the one of that id; its tokens end.")
@_STORE
@_one_line
def add(
    client_id: str,
    jwks: Path | None,
    jwks_url: str,
    scopes: tuple[str, ...],
    ods: str,
    replace: bool,
    store: str | None,
    **registered: Any,
) -> None:
    """Register CLIENT_ID; servers know it at once."""
    from fhir_server.authorisation import clients
    from fhir_server.registering import read_keys, with_ledger
    from fhir_server.storage.clock import system_clock

    given = clients.Client(
        id=client_id,
        keys=read_keys(jwks) if jwks else (),
        jwks_uri=jwks_url,
        scopes=" ".join(scopes),
        ods_code=ods,
        registered=system_clock(),
        **registered,
    )
    added = with_ledger(store, lambda ledger: clients.add(ledger, given, replace=replace))
    click.echo(f"{added.id} is registered: {added.scopes or 'no scopes'}")


@client.command("list")
@_STORE
@_one_line
def list_(store: str | None) -> None:
    """Name all clients, with what they are granted."""
    from fhir_server.access.ledger import Ledger
    from fhir_server.authorisation import clients
    from fhir_server.registering import with_ledger

    async def listed(ledger: Ledger) -> list[clients.Client]:
        return [one async for one in clients.every(ledger)]

    for one in with_ledger(store, listed):
        state = " (disabled)" if one.disabled else ""
        click.echo(f"{one.id}{state}\t{one.ods_code or '-'}\t{one.scopes or '-'}\t{one.name}")


@client.command("show")
@click.argument("client_id")
@_STORE
@_one_line
def show(client_id: str, store: str | None) -> None:
    """Print the registration of CLIENT_ID as JSON."""
    import msgspec

    from fhir_server.authorisation import clients
    from fhir_server.registering import CannotRegister, with_ledger

    found = with_ledger(store, lambda ledger: clients.find(ledger, client_id))
    if found is None:
        raise CannotRegister(f"there is no client '{client_id}'")
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))


@client.command("remove")
@click.argument("client_id")
@_STORE
@_one_line
def remove(client_id: str, store: str | None) -> None:
    """Forget CLIENT_ID; its tokens end with it."""
    from fhir_server.authorisation import clients
    from fhir_server.registering import with_ledger

    with_ledger(store, lambda ledger: clients.remove(ledger, client_id))
    click.echo(f"{client_id} is removed, and its tokens are good no more")


@client.command("disable")
@click.argument("client_id")
@_STORE
@_one_line
def disable(client_id: str, store: str | None) -> None:
    """Give CLIENT_ID no tokens, and end those that it has."""
    from fhir_server.authorisation import clients
    from fhir_server.registering import with_ledger

    with_ledger(store, lambda ledger: clients.set_disabled(ledger, client_id, True))
    click.echo(f"{client_id} is disabled, and its tokens are good no more")


@client.command("enable")
@click.argument("client_id")
@_STORE
@_one_line
def enable(client_id: str, store: str | None) -> None:
    """Give CLIENT_ID tokens again."""
    from fhir_server.authorisation import clients
    from fhir_server.registering import with_ledger

    with_ledger(store, lambda ledger: clients.set_disabled(ledger, client_id, False))
    click.echo(f"{client_id} is enabled")


@click.group()
def key() -> None:
    """Key pairs: of a client, and those that the server signs tokens with.

    Each ends with exit status 1 where it could not be done.
    """


@key.command("generate")
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), default=Path(), help="Where to.")
@click.option(
    "--algorithm", type=click.Choice(["ES384", "RS384"]), default="ES384", show_default=True
)
@_one_line
def generate(name: str, folder: Path, algorithm: str) -> None:
    """Write a client's new pair: NAME.private.json, and NAME.jwks.json to be registered."""
    from fhir_server.registering import make_pair

    secret, known = make_pair(name, folder, algorithm)
    click.echo(f"{secret}: the private key, for the client alone")
    click.echo(f"{known}: the key set, for keyworking client add --jwks")


@key.command("rotate")
@click.option("--at-once", is_flag=True, help="The old key is stolen: all tokens end now.")
@_STORE
@_one_line
def rotate(at_once: bool, store: str | None) -> None:
    """Make a new signing key; the old one verifies until its last token has expired."""
    from fhir_server.authorisation import keys
    from fhir_server.registering import with_ledger
    from fhir_server.storage.clock import system_clock

    kid = with_ledger(store, lambda ledger: keys.rotate(ledger, system_clock(), at_once=at_once))
    click.echo(f"{kid} signs from now on")


@key.command("list")
@_STORE
@_one_line
def list_keys(store: str | None) -> None:
    """Name the signing keys, with when each was made and when it goes."""
    from fhir_server.authorisation import keys
    from fhir_server.fhir.dates import instant
    from fhir_server.registering import with_ledger

    for kid, made, goes in with_ledger(store, keys.listed):
        click.echo(f"{kid}\t{instant(made)}\t{f'until {instant(goes)}' if goes else 'signs'}")


@click.command()
@click.argument("client_id")
@click.option("--scope", required=True, help="What is asked for, parted by spaces.")
@click.option("--key", "private", type=click.Path(path_type=Path), help="Its private key.")
@click.option(
    "--server",
    show_default=DEFAULT_SERVER,
    help="Base address of the running FHIR server, which is asked with --key.",
)
@click.option("--assertion", is_flag=True, help="Print what it would send, and ask nobody.")
@_STORE
@_one_line
def token(
    client_id: str,
    scope: str,
    private: Path | None,
    server: str | None,
    assertion: bool,
    store: str | None,
) -> None:
    """Print a token of CLIENT_ID, for trying out.

    With --key it is asked of the running server, as the client does it. Without, it is issued here,
    on the store, for whoever may write to it. Exit status: 1 when there is none.
    """
    from fhir_server import registering
    from fhir_server.registering import CannotRegister

    if assertion and private is None:
        raise CannotRegister("--assertion is signed with --key")
    if server is not None and private is None:
        text = "--server is asked with --key; without them the token is issued here, on the --store"
        raise CannotRegister(text)
    asked = server or DEFAULT_SERVER
    if assertion and private is not None:
        click.echo(registering.assertion(client_id, private, registering.token_endpoint(asked)))
    elif private is not None:
        answer = registering.asked_of_server(asked, client_id, private, scope)
        click.echo(answer["access_token"])
    else:
        issued = registering.with_authority(store, lambda it: it.issue(client_id, scope))
        click.echo(issued.token)

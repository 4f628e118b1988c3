"""The command line: `keyworking serve | load | demo | version`."""

from importlib.metadata import version as package_version

import click


@click.group()
def main() -> None:
    """A FHIR R4 server for the NHS keyworking service."""


@main.command()
@click.option("--host", help="Address to listen on.", show_envvar=True)
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--store", help="sqlite:///./var/keyworking.db or the like.")
@click.option("--workers", type=int, help="Server processes.")
@click.option("--auth", type=click.Choice(["none"]), help="none: no tokens, loopback only.")
@click.option("--synthetic-caseload", is_flag=True, help="Load 30 synthetic young people, once.")
def serve(synthetic_caseload: bool, **options: object) -> None:
    """Serve FHIR R4 until interrupted."""
    from fhir_server.serving import BadSettings, serve

    try:
        serve(
            {name: value for name, value in options.items() if value is not None},
            synthetic_caseload=synthetic_caseload,
        )
    except BadSettings as error:
        raise click.ClickException(str(error)) from None


@main.command()
def version() -> None:
    """Say which release this is."""
    click.echo(f"keyworking FHIR server {package_version('keyworking-fhir-server')}, FHIR 4.0.1")

"""Servers in processes of their own: a port for one, and when it answers."""

import time
import urllib.request
from socket import socket

import click


def wait(url: str, token: str = "") -> None:
    """Until the address answers 2xx, for half a minute at the most.

    Raises:
        click.ClickException: when it does not.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for _ in range(3000):
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers)).close()  # noqa: S310
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise click.ClickException(f"{url} does not answer")


def free_port() -> int:
    with socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

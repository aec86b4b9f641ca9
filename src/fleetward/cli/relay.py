"""`fleetward relay …`: a cache for a site, on port 2967."""

import asyncio
import os
import signal
import ssl
from pathlib import Path
from typing import Annotated

import typer

from fleetward.cli.listening import parse_listen, print_listening
from fleetward.errors import ConfigurationError
from fleetward.httpd import loops
from fleetward.relay.server import run_relay
from fleetward.relay.settings import RelaySettings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def relay() -> None:
    """Cache content for a site; a relay holds no keys and is trusted with nothing."""


@app.command()
def run(
    upstream: Annotated[
        list[str], typer.Option("--upstream", metavar="URL", help="An origin or relay; in order.")
    ],
    cache: Annotated[Path, typer.Option("--cache", metavar="DIR", help="Where blobs are kept.")],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="HOST:0 takes a free port.")
    ] = "0.0.0.0:2967",
    ca_bundle: Annotated[
        Path | None, typer.Option("--ca-bundle", help="Trust these authorities (PEM) upstream.")
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", help="An HTTP proxy towards the upstreams."),
    ] = None,
) -> None:
    """Serve a site's hosts; end it with SIGTERM.

    Example: fleetward relay run --upstream https://origin.example --cache /var/cache/fleetward
    --listen 0.0.0.0:2967
    """
    host, port = parse_listen(listen)
    settings = RelaySettings(
        upstreams=tuple(url.rstrip("/") for url in upstream),
        cache=cache.absolute(),
        host=host,
        port=port,
        upstream_tls=_authorities(ca_bundle),
        proxy=proxy or "",
    )
    loops.raise_descriptor_limit()
    loops.run(_run(settings))


def _authorities(bundle: Path | None) -> ssl.SSLContext | None:
    if bundle is None:
        return None
    try:
        return ssl.create_default_context(cafile=os.fspath(bundle))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"cannot use the CA bundle {bundle}: {error}") from error


async def _run(settings: RelaySettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_relay(settings, ready=print_listening, stop=stop)

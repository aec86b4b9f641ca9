"""`fleetward relay …`: a cache for a site, on port 2967."""

import asyncio
import os
import signal
import ssl
from pathlib import Path
from typing import Annotated

import typer

from fleetward.adapters.disk import SystemDisk
from fleetward.cli.listening import parse_listen, print_listening
from fleetward.config.relay import RelayFileSettings, TlsFileSettings, load_relay_settings
from fleetward.config.strict import toml_text
from fleetward.errors import ConfigurationError, UsageError
from fleetward.httpd import loops
from fleetward.httpd.tls import ClientCertificates, TlsFiles
from fleetward.relay.server import run_relay
from fleetward.relay.settings import RelaySettings, server_limits

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings in TOML; flags win. See `relay settings`."
    ),
]


@app.callback()
def relay() -> None:
    """Cache content for a site; a relay holds no keys and is trusted with nothing."""


@app.command()
def run(
    upstream: Annotated[
        list[str] | None,
        typer.Option("--upstream", metavar="URL", help="An origin or relay; in order."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", metavar="DIR", help="Where blobs are kept.")
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Default 0.0.0.0:2967; 0 is free."),
    ] = None,
    console: Annotated[
        str | None, typer.Option("--console", metavar="URL", help="Carry check-ins to it.")
    ] = None,
    config: Config = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="PEM", help="Serve https with it.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="PEM", help="The certificate's key.")
    ] = None,
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
    chosen = _settings_of(config)
    flags = {
        "upstreams": tuple(upstream or ()) or None,
        "cache": cache,
        "listen": listen,
        "console": console,
        "tls": _tls_of(tls_cert, tls_key),
        "ca_bundle": ca_bundle,
        "proxy": proxy,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    settings = relay_settings(chosen.having(**given))
    loops.raise_descriptor_limit()
    loops.run(_run(settings))


@app.command()
def settings(config: Config = None) -> None:
    """Print all settings in force, as TOML: the defaults, or what a file makes of them.

    Example: fleetward relay settings > relay.toml
    """
    typer.echo(toml_text(_settings_of(config)), nl=False)


def _settings_of(config: Path | None) -> RelayFileSettings:
    return load_relay_settings(SystemDisk(), config) if config else RelayFileSettings()


def _tls_of(certificate: Path | None, key: Path | None) -> TlsFileSettings | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together: give both")
    return TlsFileSettings(certificate=certificate.absolute(), key=key.absolute())


def relay_settings(chosen: RelayFileSettings) -> RelaySettings:
    """Return what the relay is told, from its file and flags.

    Raises:
        UsageError: no upstream or no cache folder, or `listen` is no HOST:PORT.
        ConfigurationError: a certificate or CA bundle cannot be used.
    """
    if not chosen.upstreams or chosen.cache is None:
        raise UsageError("a relay needs --upstream URL and --cache DIR (or --config with both)")
    host, port = parse_listen(chosen.listen)
    return RelaySettings(
        upstreams=tuple(url.rstrip("/") for url in chosen.upstreams),
        cache=chosen.cache.absolute(),
        host=host,
        port=port,
        tls=_tls_files(chosen.tls),
        upstream_tls=_authorities(chosen.ca_bundle),
        proxy=chosen.proxy,
        console=chosen.console.rstrip("/"),
        server_limits=server_limits(chosen.clients),
        storage=chosen.storage,
        bandwidth=chosen.bandwidth,
        clients=chosen.clients,
        push=chosen.push,
        spool=chosen.spool,
        discovery=chosen.discovery,
        mirrors=chosen.mirror,
        passthroughs=chosen.passthrough,
    )


def _tls_files(files: TlsFileSettings | None) -> TlsFiles | None:
    if files is None:
        return None
    kind = ClientCertificates.OPTIONAL
    if files.require_client_certificate:
        kind = ClientCertificates.REQUIRED
    return TlsFiles(files.certificate, files.key, files.client_ca, kind)


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

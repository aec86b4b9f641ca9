"""A notice on its way: by webhook, e-mail or syslog."""

import contextlib
import json
import socket
import ssl
from datetime import datetime
from urllib.parse import urlsplit

from django.core.mail import EmailMessage, get_connection

from fleetward.config.console import ConsoleFileSettings, MailSettings
from fleetward.console.notices.models import Channel, Level, Notice, Way
from fleetward.console.notices.syslog import framed, message
from fleetward.console.notices.webhook import NotSent, post, secret_of, signature

SYSLOG_PORT = 514
SYSLOG_TLS_PORT = 6514
"""Where a syslog listens unless its target says so (RFC 5426, 3.3; RFC 5425, 4.1)."""

SECONDS = 10.0
"""How long a mail server or syslog may take."""


def send(channel: Channel, notice: Notice, settings: ConsoleFileSettings, now: datetime) -> None:
    """Send a notice to a channel.

    Raises:
        NotSent: it did not get through.
    """
    if channel.way == Way.WEBHOOK:
        body = _document(notice, settings)
        signed = {"Fleetward-Signature": signature(secret_of(channel.secret), now, body)}
        post(channel.target, body, signed, settings.notices)
    elif channel.way == Way.EMAIL:
        _mail(channel.target, notice, settings)
    else:
        _syslog(channel.target, notice, settings)


def _document(notice: Notice, settings: ConsoleFileSettings) -> bytes:
    return json.dumps(
        {
            "schema": "fleetward.notice/1",
            "id": notice.pk,
            "key": notice.key,
            "level": Level(notice.level).name.lower(),
            "title": notice.title,
            "body": notice.body,
            "link": _link(notice, settings),
            "at": notice.at.isoformat(),
            "repeats": notice.repeats,
        },
        ensure_ascii=False,
    ).encode()


def _link(notice: Notice, settings: ConsoleFileSettings) -> str:
    return f"{(settings.url or '').rstrip('/')}{notice.link}" if notice.link else ""


def _mail(address: str, notice: Notice, settings: ConsoleFileSettings) -> None:
    mail = settings.mail
    if mail is None:
        raise NotSent("no mail server: section [mail] of the settings")
    subject = f"[{settings.name}] {Level(notice.level).name.lower()}: {notice.title}"
    written = EmailMessage(
        " ".join(subject.split()),
        "\n\n".join(part for part in (notice.title, notice.body, _link(notice, settings)) if part),
        mail.sender,
        [address],
        headers={"Auto-Submitted": "auto-generated"},
        connection=get_connection(
            "django.core.mail.backends.smtp.EmailBackend",
            host=mail.host,
            port=mail.port,
            username=mail.username,
            password=_password(mail),
            use_tls=mail.security == "starttls",
            use_ssl=mail.security == "tls",
            timeout=SECONDS,
        ),
    )
    try:
        written.send()
    except OSError as error:  # smtplib's own are among them
        raise NotSent(f"{mail.host}: {error}"[:300]) from error


def _password(mail: MailSettings) -> str:
    if mail.password_file is None:
        return ""
    try:
        return mail.password_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotSent(f"cannot read mail.password_file: {error}") from error


def _syslog(target: str, notice: Notice, settings: ConsoleFileSettings) -> None:
    parts = urlsplit(target)
    host, port = (
        parts.hostname or "",
        parts.port or (SYSLOG_TLS_PORT if parts.scheme == "tls" else SYSLOG_PORT),
    )
    text = f"{settings.name}: {notice.title}. {notice.body}".strip()
    made = message(Level(notice.level), notice.at, socket.gethostname(), notice.key, text)
    try:
        if parts.scheme in {"tcp", "tls"}:
            with _stream(parts.scheme, host, port, settings) as stream:
                stream.sendall(framed(made))
                # RFC 5425, 4.4: an end that is said. A collector that does not answer it has the
                # message all the same; told again, it would have it twice.
                if isinstance(stream, ssl.SSLSocket):
                    with contextlib.suppress(OSError):
                        stream.unwrap()
            return
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as datagrams:
            datagrams.sendto(made, address)
    except OSError as error:
        raise NotSent(f"{host}: {error}"[:300]) from error


def _stream(scheme: str, host: str, port: int, settings: ConsoleFileSettings) -> socket.socket:
    """Return a connection to a syslog; over TLS its certificate must be of the name."""
    plain = socket.create_connection((host, port), timeout=SECONDS)
    if scheme == "tcp":
        return plain
    bundle = settings.notices.ca_bundle
    try:
        context = ssl.create_default_context(cafile=str(bundle) if bundle else None)
        return context.wrap_socket(plain, server_hostname=host)
    except OSError:
        plain.close()
        raise

"""A small repository on disk, as httpd and relay see one: names and bytes, no signatures."""

import hashlib
from pathlib import Path

from fleetward.core.digest import Sha256, sha256_of

TIMESTAMP = b'{"signed": {"version": 1}}'.ljust(471)
SNAPSHOT = b'{"snapshot": 7}' * 100
CHANNEL = b'{"channel": "stable"}' * 50
SMALL = b"small blob" * 1000
LARGE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(40_000))
"""1.28 MB: above every threshold for sending from memory."""


def blob_url(content: bytes) -> str:
    digest = sha256_of(content)
    return f"/blobs/sha256/{digest[:2]}/{digest}"


def channel_url(content: bytes = CHANNEL) -> str:
    return f"/targets/channels/yara/{sha256_of(content)}.stable.json"


def write(root: Path, url: str, content: bytes) -> None:
    file = root / url[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name("new.part")
    temporary.write_bytes(content)
    temporary.replace(file)


def make_repository(root: Path) -> Path:
    write(root, "/metadata/timestamp.json", TIMESTAMP)
    write(root, "/metadata/1.root.json", b'{"root": 1}')
    write(root, "/metadata/7.snapshot.json", SNAPSHOT)
    write(root, channel_url(), CHANNEL)
    write(root, blob_url(SMALL), SMALL)
    write(root, blob_url(LARGE), LARGE)
    return root


def digest_in(url: str) -> Sha256:
    return Sha256(url.rsplit("/", 1)[1])

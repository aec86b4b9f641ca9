"""Timestamps as TUF writes them, with signatures that nobody made: what a relay cannot tell."""

import json


def timestamp(version: int, mark: str = "", **signed: object) -> bytes:
    """Return a timestamp of the usual length that claims `version`; `mark` tells two apart."""
    document = {
        "signatures": [{"keyid": "a" * 64, "sig": mark.ljust(128, "0")}],
        "signed": {
            "_type": "timestamp",
            "expires": "2026-12-01T02:00:00Z",
            "meta": {"snapshot.json": {"version": 7}},
            "spec_version": "1.0.31",
            "version": version,
            "x-interval": 600,
            **signed,
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()

"""Version 1 on the wire: these bytes stay decodable, whatever the encoders learn."""

import base64
import gzip
from pathlib import Path

import pytest

from fleetward.deltas import MemoryTree, apply_delta, decode_pack, tar_bytes

GOLDEN = Path(__file__).parent / "golden"
LINES = [
    b'alert tcp any any -> any %d (msg:"rule %d"; sid:%d;)\n' % (i * 7, i, i) for i in range(90)
]
OLD = b"".join(LINES)
NEW = b"".join([*LINES[:40], b"# fresh\n", *LINES[44:80], LINES[3], *LINES[80:]])

BASE = MemoryTree(
    {
        "dropped.rules": b"".join(LINES[:9]),
        "main.rules": OLD,
        "main.rules.gz": b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + gzip.compress(OLD, 9, mtime=0)[10:],
        "same.rules": b"the same\n" * 5,
        "tool": b"#!/bin/sh\n",
    },
    frozenset({"tool"}),
)
RESULT = MemoryTree(
    {
        "added/é.rules": b"".join(LINES[5:9]),
        "copy.rules": b"the same\n" * 5,
        "main.rules": NEW,
        "main.rules.gz": b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + gzip.compress(NEW, 9, mtime=0)[10:],
        "same.rules": b"the same\n" * 5,
        "tool": b"#!/bin/sh\n",
    }
)


def golden(name: str) -> bytes:
    return base64.b64decode((GOLDEN / f"{name}.b64").read_bytes())


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("changed-set-near", "changed-set"),
        ("changed-set-all", "changed-set"),
        ("hdiffpatch", "hdiffpatch"),
        ("whole-tree", "whole-tree"),
    ],
)
def test_a_golden_delta_applies(name: str, codec: str) -> None:
    tar = tar_bytes(RESULT)
    made = apply_delta(
        codec,
        BASE,
        golden(f"{name}.delta"),
        encoder="zlib/9/8/default",
        result_length=len(tar),
    )
    assert b"".join(made) == tar


def test_the_golden_pack_opens() -> None:
    tar = tar_bytes(RESULT)
    assert b"".join(decode_pack([golden("pack")], len(tar))) == tar

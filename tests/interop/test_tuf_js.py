"""A TUF client that shares no code with ours reads the repository and verifies a manifest."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fleetward.cli.main import run
from support.programs import serving

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"

needs_tuf_js = pytest.mark.skipif(
    shutil.which("node") is None or not (MODULES / "tuf-js").is_dir(),
    reason="tuf-js is not installed: install node and npm, then run `make interop`",
)


def fetch(folder: Path, url: str, target: str) -> "subprocess.CompletedProcess[str]":
    (folder / "downloads").mkdir(exist_ok=True)
    command = ["node", str(HERE / "fetch.cjs"), str(folder / "trusted"), url, target]
    return subprocess.run(
        [*command, str(folder / "downloads")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@needs_tuf_js
def test_tuf_js_fetches_and_verifies_a_manifest_and_refuses_an_altered_one(tmp_path: Path) -> None:
    repo, keys, tree = (str(tmp_path / name) for name in ("repo", "keys", "tree"))
    Path(tree).mkdir()
    (Path(tree) / "a.yar").write_text("rule a {}")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    assert run(["origin", "publish", repo, "yara", tree, "--keys", keys, "--release", "r1"]) == 0
    (tmp_path / "trusted").mkdir()
    shutil.copy(Path(repo) / "metadata" / "1.root.json", tmp_path / "trusted" / "root.json")
    with serving("origin", "serve", repo, "--listen", "127.0.0.1:0") as url:
        done = fetch(tmp_path, url, "releases/yara/r1.json")
        assert done.returncode == 0, done.stderr
        manifest = json.loads(Path(done.stdout.strip()).read_text())
        assert manifest["schema"] == "fleetward.release/1"
        assert fetch(tmp_path, url, "channels/yara/stable.json").returncode == 0

        published = next((Path(repo) / "targets" / "releases" / "yara").glob("*.r1.json"))
        published.write_bytes(published.read_bytes().replace(b'"seq":1', b'"seq":2'))
        shutil.rmtree(tmp_path / "downloads")
        assert fetch(tmp_path, url, "releases/yara/r1.json").returncode == 1

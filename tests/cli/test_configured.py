"""`--config FILE` of the commands whose settings are their flags: flags win, and mistakes are told."""

import json
from pathlib import Path

import pytest
import typer

from fleetward.cli.configured import ConfiguredTyper
from fleetward.cli.main import run
from fleetward.errors import ConfigurationError


def said_by(
    tmp_path: Path, toml: str, *arguments: str, capsys: pytest.CaptureFixture[str]
) -> dict[str, object]:
    """Run a small program with that file, and return what its command got."""
    app = ConfiguredTyper()
    group = ConfiguredTyper()
    top = typer.Typer()
    top.add_typer(app, name="program")
    app.add_typer(group, name="group")

    @app.command()
    def one(
        name: str = "default", count: int = 1, tag: list[str] | None = None, *, loud: bool = False
    ) -> None:
        print(json.dumps({"name": name, "count": count, "tag": tag, "loud": loud}))

    @group.command()
    def two(where: Path, name: str = "default") -> None:
        print(json.dumps({"where": str(where), "name": name}))

    file = tmp_path / "settings.toml"
    file.write_text(toml)
    top([*arguments, "--config", str(file)], standalone_mode=False)
    got: dict[str, object] = json.loads(capsys.readouterr().out)
    return got


ONE = ("program", "one")
TWO = ("program", "group", "two")


def test_a_key_of_the_program_and_one_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = 'name = "all"\n[one]\ncount = 7\ntag = ["a", "b"]\nloud = true\n'
    got = said_by(tmp_path, toml, *ONE, capsys=capsys)
    assert got == {"name": "all", "count": 7, "tag": ["a", "b"], "loud": True}


def test_the_commands_own_key_wins_over_the_programs_and_a_flag_over_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = 'name = "all"\n[one]\nname = "one"\n'
    assert said_by(tmp_path, toml, *ONE, capsys=capsys)["name"] == "one"
    assert said_by(tmp_path, toml, *ONE, "--name", "flag", capsys=capsys)["name"] == "flag"


def test_a_command_of_a_group_and_an_argument(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = 'name = "all"\n[group.two]\nwhere = "/srv"\n'
    assert said_by(tmp_path, toml, *TWO, capsys=capsys) == {"where": "/srv", "name": "all"}


def test_what_is_meant_for_another_command_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = "[group.two]\nname = 'two'\n"
    assert said_by(tmp_path, toml, *ONE, capsys=capsys)["name"] == "default"


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("nam = 'x'", "unknown key 'nam'; did you mean 'name'?"),
        ("[one]\ncuont = 1", "unknown key 'one.cuont'; did you mean 'count'?"),
        ("[on]\ncount = 1", "unknown key 'on'; did you mean 'one'?"),
        ("[group.tow]\nname = 'x'", "unknown key 'group.tow'; did you mean 'two'?"),
        ("[one.name]\nx = 1", "unknown key 'one.name'"),
        ("config = 'other.toml'", "unknown key 'config'"),
        ("[one]\nloud = 'yes'", "loud is true or false"),
        ("[one]\nname = true", "name is a text or a number"),
        ("[one]\nname = ['a']", "name is a text or a number"),
        ("[one]\ntag = 'a'", "tag is a list"),
        ("[one]\nname = 2026-11-24", "name is a text or a number"),
        ("[one", "not TOML"),
    ],
)
def test_a_mistake_is_told_with_the_files_name(
    tmp_path: Path, toml: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"settings\.toml") as caught:
        said_by(tmp_path, toml, *ONE, capsys=capsys)
    assert complaint in str(caught.value)


def test_a_file_that_is_absent_or_a_folder_or_no_text_ends_with_12(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, complaint in (("absent", "there is no"), (".", "cannot read"), ("binary", "cannot")):
        assert run(["origin", "doctor", "--config", str(tmp_path / name)]) == 12
        assert complaint in capsys.readouterr().err


def test_an_origin_told_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Make a repository and publish twice, with one flag that wins."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.yar").write_text("rule a { condition: true }\n")
    file = tmp_path / "origin.toml"
    file.write_text(
        f'repo = "{tmp_path}/repo"\nkeys = "{tmp_path}/keys"\njson = true\n'
        "[init]\nplain_keys = true\n"
        f'[publish]\nproduct = "rules"\ntree = "{tmp_path}/tree"\nrelease = "r1"\n'
    )
    config = ("--config", str(file))
    assert run(["origin", "init", *config]) == 0
    assert run(["origin", "publish", *config]) == 0
    assert run(["origin", "publish", *config, "--release", "r2"]) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["schema"] for one in documents] == [
        "fleetward.init/1",
        "fleetward.publish/1",
        "fleetward.publish/1",
    ]
    assert [one["release"] for one in documents[1:]] == ["r1", "r2"]


def test_every_command_takes_a_config_or_says_in_the_contract_why_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in (["origin", "serve"], ["agent", "init"], ["demo"], ["relay", "run"]):
        assert run([*command, "--help"]) == 0
        assert "--config" in capsys.readouterr().out

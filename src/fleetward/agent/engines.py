"""What an engine says of a tree: the profiles that come with Fleetward, and the operator's command.

A profile answers one question, in a child process with limits: does the engine load this folder,
detect its canaries, and leave the clean files alone? A release whose engine has neither a profile
here nor a command of the operator's is never confirmed (P2): that is a ConfigurationError, not a
pass.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fleetward.adapters.processes import Finished, python_command, run_limited
from fleetward.config.agent import EngineSettings
from fleetward.errors import ConfigurationError, RejectedError

Runner = Callable[[tuple[str, ...], EngineSettings], Finished]


def _run(command: tuple[str, ...], settings: EngineSettings) -> Finished:
    return run_limited(command, max_memory=settings.max_memory, max_time=settings.max_time)


@dataclass(frozen=True, slots=True)
class Engines:
    """Tries trees.

    Attributes:
        run: runs one check in a child; tests pass their own.
    """

    run: Runner = _run

    def try_tree(self, tree: Path, settings: EngineSettings) -> None:
        """Let the engine load the folder `tree`.

        Raises:
            RejectedError: the engine refuses it; the message is the engine's.
            ConfigurationError: this host cannot try content for that engine.
        """
        commands = [self._profile(tree, settings), self._operators(tree, settings)]
        chosen = [command for command in commands if command is not None]
        if settings.name != "files" and not chosen:
            raise ConfigurationError(
                f"no profile for the engine {settings.name!r} on this host, so its content cannot "
                f"be tried: add [[engines]] name = {settings.name!r} with a preflight command to "
                "agent.toml"
            )
        for command in chosen:
            _judge(command, self.run(command, settings))

    def _profile(self, tree: Path, settings: EngineSettings) -> tuple[str, ...] | None:
        if settings.name != "yara":
            return None
        if importlib.util.find_spec("yara_x") is None:
            raise ConfigurationError(
                "this host cannot try YARA rules without yara-x: run "
                "`pip install 'fleetward[yara]'`"
            )
        return python_command(
            "fleetward.agent.yara_check",
            str(tree),
            *(f"--canary={path}" for path in settings.canaries),
            *(f"--clean={path}" for path in settings.clean),
        )

    def _operators(self, tree: Path, settings: EngineSettings) -> tuple[str, ...] | None:
        if not settings.preflight:
            return None
        return tuple(part.replace("{tree}", str(tree)) for part in settings.preflight)


def _judge(command: tuple[str, ...], finished: Finished) -> None:
    if finished.exit_code == 0:
        return
    program = Path(command[0]).name if command[1:2] != ("-I",) else command[3]
    ended = (
        "did not end in its time"
        if finished.exit_code is None
        else f"ended with {finished.exit_code}"
    )
    last_lines = "\n".join(finished.output.splitlines()[-5:])
    raise RejectedError(f"{program} {ended}: {last_lines or 'it printed nothing'}")

"""Draws docs/demo.svg: the demo's last picture, as a terminal shows it."""

import io
import re
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from fleetward.demo.acts import Play
from fleetward.demo.content import sample_series
from fleetward.demo.screen import Screen
from fleetward.demo.stage import Stage

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "demo.svg"


def main() -> None:
    console = Console(file=io.StringIO(), width=132, record=True, force_terminal=True)
    screen = Screen(console)
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), 8) as stage:
        Play(stage, sample_series(Path(folder)), screen).play()
    console.print(screen.picture())
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    drawn = console.export_svg(title="fleetward demo", code_format=without_fonts)
    drawn = re.sub(r"127\.0\.0\.1:\d+", "relay.site:2967", drawn)
    PICTURE.write_text(drawn.replace("Fira Code", "DejaVu Sans Mono"))
    print(f"drew {PICTURE}")


if __name__ == "__main__":
    main()

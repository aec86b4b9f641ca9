"""The text format and the limits as JSON, by themselves."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fleetward.relay.metrics import counted, limits_in_force, render
from fleetward.relay.part import Kind, Metric
from fleetward.relay.settings import RelaySettings
from relay.test_limits import parsed


def test_each_name_is_told_once_however_its_samples_come() -> None:
    metrics = [
        Metric("a_total", 1, "First.", labels=(("x", "1"),)),
        Metric("b", 2.5, "Second.", Kind.GAUGE),
        Metric("a_total", 3, "First.", labels=(("x", "2"),)),
    ]
    assert render(metrics, "p_").decode() == (
        "# HELP p_a_total First.\n"
        "# TYPE p_a_total counter\n"
        'p_a_total{x="1"} 1\n'
        'p_a_total{x="2"} 3\n'
        "# HELP p_b Second.\n"
        "# TYPE p_b gauge\n"
        "p_b 2.5\n"
    )
    assert render([]) == b""


def test_values_that_are_no_plain_numbers() -> None:
    rows = [
        Metric(f"m{number}", value, "A value.", Kind.GAUGE)
        for number, value in enumerate([True, math.inf, -math.inf, math.nan, 1e300])
    ]
    values = [line.split(" ")[1] for line in render(rows).decode().split("\n") if line[:1] == "f"]
    assert values == ["1", "+Inf", "-Inf", "NaN", "1e+300"]


@given(st.text(), st.text(alphabet=st.sampled_from('a\\"\n,}= {#é')), st.floats(allow_nan=False))
def test_any_label_and_help_is_escaped(help_text: str, label: str, value: float) -> None:
    """An upstream's URL is whatever an administrator wrote."""
    told = "".join(c for c in help_text if c.isprintable()) + "\n\\end"
    text = render([Metric("m", value, told, Kind.GAUGE, (("name", label),))]).decode()
    ((labels, found),) = parsed(text)["fleetward_relay_m"].items()
    ((name, escaped),) = labels
    unescaped = escaped.replace(r"\\", "\0").replace(r"\n", "\n").replace(r"\"", '"')
    assert (name, unescaped.replace("\0", "\\")) == ("name", label)
    assert found == value


@dataclass
class Counted:
    """What is counted.

    Attributes:
        apples: eaten, of
            all kinds.
        pears: left: two.
    """

    apples: int = 3
    pears: int = 2
    plums: int = 1


def test_counters_are_told_with_the_sentences_of_their_docstring() -> None:
    assert list(counted(Counted(), "f_", gauges=frozenset({"pears"}))) == [
        Metric("f_apples_total", 3, "Eaten, of all kinds."),
        Metric("f_pears", 2, "Left: two.", Kind.GAUGE),
        Metric("f_plums_total", 1, "plums"),
    ]


def test_limits_are_plain_json(tmp_path: Path) -> None:
    limits = limits_in_force(RelaySettings(upstreams=("http://secret@a",), cache=tmp_path))
    text = json.dumps(limits)
    assert "secret" not in text
    assert limits["cache"]["timestamp_lifetime"] == 3  # type: ignore[index]

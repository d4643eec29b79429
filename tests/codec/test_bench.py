"""The benchmark's medians, intervals, verdicts, tables and charts."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import goals, report, results
from bench.cells import CELLS, READY
from bench.charts import Bar, Group, bar_chart
from bench.goals import Goal
from bench.intervals import Estimate, estimate, figure, paired
from bench.results import Results
from bench.tables import Column, cell_table, table

Values = dict[tuple[str, str, str], dict[int, float]]


def of(values: Values) -> Results:
    """Results without facts."""
    return Results({}, values)


def test_the_interval_holds_the_median_and_only_measured_values() -> None:
    found = estimate([5.0, 1.0, 3.0, 2.0, 4.0])

    assert found.median == 3.0
    assert 1.0 <= found.low <= 3.0 <= found.high <= 5.0


def test_equal_rounds_have_an_interval_without_width() -> None:
    assert estimate([7.0, 7.0, 7.0]) == Estimate(7.0, 7.0, 7.0)


def test_an_outlier_widens_the_interval_and_does_not_move_the_median() -> None:
    found = estimate([1.0, 1.0, 1.0, 1.0, 100.0])

    assert found.median == 1.0
    assert found.high > 1.0


def test_the_estimate_of_the_same_rounds_is_the_same() -> None:
    assert estimate([3.0, 1.0, 2.0]) == estimate([3.0, 1.0, 2.0])


def test_contestants_are_compared_within_rounds_that_both_have() -> None:
    found = paired({1: 10.0, 2: 40.0, 3: 9.0}, {1: 5.0, 2: 20.0}, goals.ratio)

    assert found == Estimate(2.0, 2.0, 2.0)


def test_contestants_without_a_common_round_are_not_compared() -> None:
    assert paired({1: 10.0}, {2: 5.0}, goals.ratio) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.5, 0.9, "met"), (0.9, 1.1, "tie"), (1.1, 1.2, "missed")]
)
def test_a_limit_inside_the_interval_is_a_tie(low: float, high: float, verdict: str) -> None:
    assert Estimate((low + high) / 2, low, high).verdict(1.0) == verdict


def test_a_goal_compares_eudai_with_its_peer() -> None:
    measured = of({
        ("eudai", "flat", "cpu_us"): {1: 4.0, 2: 6.0},
        ("go", "flat", "cpu_us"): {1: 4.0, 2: 6.0},
    })  # fmt: skip

    assert list(goals.rows(measured, "eudai")) == [
        ("flat out, 8 streams: CPU", "go", "≤ 1.2 ×", "1 ×", "met")
    ]


def test_a_goal_may_be_a_difference() -> None:
    goal = Goal("idle", "ttft_p50_us", 700.0, "direct", is_difference=True)
    measured = of({
        ("eudai", "idle", "ttft_p50_us"): {1: 1200.0},
        ("direct", "idle", "ttft_p50_us"): {1: 200.0},
    })  # fmt: skip

    reached = goal.reached(measured, "eudai")

    assert reached == Estimate(1000.0, 1000.0, 1000.0)
    assert goal.row(reached)[2:] == ("≤ 0.7 ms", "1 ms", "missed")


def test_every_goal_can_be_written() -> None:
    for goal in goals.GOALS:
        assert all(goal.row(Estimate(1.0, 1.0, 1.0))[2:])


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    with path.open("w") as file:
        writer = results.Writer(file, {"kernel": "6.1: test"})
        writer.write(1, "eudai", "flat", {"cpu_us": 4.25, "lost": 0})
        writer.write(2, "eudai", "flat", {"cpu_us": 5})

    measured = results.read(path)

    assert measured.facts == {"kernel": "6.1: test"}
    assert measured.rounds("eudai", "flat", "cpu_us") == {1: 4.25, 2: 5.0}
    assert measured.rounds("eudai", "flat", "lost") == {1: 0.0}
    assert measured.contestants("flat") == ["eudai"]


def test_another_file_is_not_read_as_results(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(ValueError, match="does not have the columns"):
        results.read(path)


def test_what_was_not_measured_is_a_dash() -> None:
    measured = of({("go", "flat", "cpu_us"): {1: 3.0}, ("eudai", "flat", "lost"): {1: 0.0}})

    assert Column("CPU", "cpu_us").text(measured, "eudai", "flat") == "–"
    assert "| **eudai** | – | 0 |" in cell_table(measured, "flat")


def test_losses_of_all_rounds_are_added() -> None:
    measured = of({("go", "flat", "lost"): {1: 0.0, 2: 0.0, 3: 2.0}})

    assert "| 2 |" in cell_table(measured, "flat")


def test_a_busy_load_core_is_marked() -> None:
    measured = of({
        ("go", "flat", "load_core"): {1: 0.9, 2: 0.8, 3: 0.1},
        ("eudai", "flat", "load_core"): {1: 0.9, 2: 0.1, 3: 0.1},
    })  # fmt: skip

    lines = cell_table(measured, "flat").splitlines()

    assert [line.split(" | ")[1] for line in lines[2:]] == ["**80** |", "10 |"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (3.84, "3.84"), (93.96, "94"), (2725.4, "2,725"), (0.5, "0.5")]
)
def test_figures_have_about_three_digits(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_table_has_a_line_for_each_row() -> None:
    assert table(["", "a"], [["x", "1"]]).splitlines() == [
        "|  | a |",
        "| --- | ---: |",
        "| x | 1 |",
    ]


def test_a_longer_bar_has_a_larger_value() -> None:
    bars = [Bar("a < b", 10.0, "10", ours=True), Bar("c", 1000.0, "1,000", ours=False)]

    image = ET.fromstring(bar_chart("title", [Group("cell", bars)]))  # noqa: S314 - our own text

    rects = image.findall("{http://www.w3.org/2000/svg}rect")[1:]
    assert float(rects[0].attrib["width"]) < float(rects[1].attrib["width"])
    assert "a < b" in {text.text for text in image.iter("{http://www.w3.org/2000/svg}text")}


def test_the_report_fits_a_terminal() -> None:
    measured = of({
        (name, cell, metric): {1: 12_345.678, 2: 98_765.4}
        for name in ("eudai", "usual", "floor", "go", "litellm", "fastapi", "direct")
        for cell in goals.CPU_CELLS
        for metric in ("cpu_us", "ttft_p50_us", "ttft_p99_us", "added_p99_us", "lost", "failed")
    })  # fmt: skip

    text = report.text(measured)

    assert [line for line in text.splitlines() if len(line) > 100] == []
    assert "### To reach: eudai" in text


def test_each_option_of_a_cell_has_a_value() -> None:
    for cell in (*CELLS, READY):
        options = cell.arguments()
        assert [option[0] == "-" for option in options] == [True, False] * (len(options) // 2)

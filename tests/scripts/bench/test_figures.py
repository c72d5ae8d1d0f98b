"""What the benchmark makes of measured times: ratios, verdicts, tables; on made-up figures."""

from __future__ import annotations

import numpy as np
import pytest

from bench import figures, peers
from bench.case import NETWORKS, Case
from bench.figures import Result, Verdict


def results(**us_per_step: list[float]) -> list[Result]:
    return [
        Result(name.replace("_", "-"), values, first_step_s=0.5, peak_mb=900.0, steps=3, loss=1.0)
        for name, values in us_per_step.items()
    ]


def test_ratio_is_taken_within_each_round() -> None:
    # The machine was ten times slower in round 2; a ratio of medians would give 2.7.
    ours, peer = [10.0, 100.0, 11.0], [30.0, 310.0, 22.0]
    assert figures.ratio(peer, ours) == pytest.approx(3.0)
    assert np.median(peer) / np.median(ours) == pytest.approx(30 / 11)


def test_ratio_of_an_even_number_of_rounds_is_the_mean_of_the_middle_two() -> None:
    assert figures.ratio([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 1.0, 1.0]) == 2.5


@pytest.mark.parametrize("pair", [([], []), ([1.0], [1.0, 2.0])])
def test_ratio_wants_equal_rounds(pair: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="the same number, at least one"):
        figures.ratio(*pair)


def test_median_of_blocks() -> None:
    assert Result("fit", [5.0, 1.0, 3.0]).median_us == 3.0


def test_every_contender_is_compared_with_gradloop() -> None:
    found = figures.to_base(results(gradloop=[10.0, 20.0], fit=[25.0, 50.0]))
    assert found == {"gradloop": 1.0, "fit": 2.5}
    assert figures.to_base(results(fit=[25.0])) == {}


@pytest.mark.parametrize(("ratio", "word"), [(2.49, "missed"), (2.5, "met"), (2.99, "met"), (3.0, "reached")])
def test_target_words(ratio: float, word: str) -> None:
    assert Verdict("fit", ratio, at_least=2.5, reach_for=3.0).word == word


@pytest.mark.parametrize(("ratio", "word"), [(0.9, "met"), (1.05, "met"), (1.051, "missed")])
def test_limit_words(ratio: float, word: str) -> None:
    assert Verdict("bare", ratio, at_least=1.05, reach_for=None, limit=True).word == word


def test_verdicts_of_a_case() -> None:
    found = figures.verdicts(
        "lenet5",
        32,
        results(gradloop=[100.0] * 3, fit=[260.0] * 3, torch=[150.0] * 3, bare=[99.0] * 3),
    )
    assert [(v.against, v.word, v.limit) for v in found] == [
        ("fit", "met", False),
        ("torch", "missed", False),
        ("bare", "met", True),
    ]
    # A limit is gradloop's time over the peer's, a target the other way round.
    assert found[-1].ratio == pytest.approx(100 / 99)
    assert figures.verdicts("lenet5", 32, results(fit=[1.0])) == []


def test_targets_name_what_exists() -> None:
    for network, batch_size, peer, least, hoped in figures.TARGETS:
        assert network in NETWORKS and batch_size in (32, 128) and peer in peers.PEERS
        assert 0 < least < hoped
    assert set(figures.LIMITS) <= set(peers.PEERS)


def test_tables() -> None:
    found = results(gradloop=[1000.0, 1100.0, 1050.0], fit=[2600.0, 2900.0, 2700.0])
    found[1].note = "said so"
    shown = figures.results_table(Case("lenet5", 32, 500), found)
    assert shown.startswith("LeNet-5, batch 32 (3 rounds, blocks of 500 steps)\n")
    assert shown.splitlines()[-1].split() == (
        ["fit", "2700", "2600..2900", "2.60x", "0.50", "900", "1.000", "said", "so"]
    )
    case = Case("lenet5", 32, 500)
    wanted = figures.verdict_table([(case, v) for v in figures.verdicts("lenet5", 32, found)])
    assert wanted.splitlines()[-1].split() == (
        ["LeNet-5,", "batch", "32", "fit", "/", "gradloop", "2.60", ">=", "2.5", "3", "met"]
    )
    assert "No wanted figure" in figures.verdict_table([])


def test_table_warns_of_what_makes_a_figure_doubtful() -> None:
    guessing = Result("x", [1.0] * 3, steps=100, loss=2.4, turn_s=10.0, idle_cpu_s=1.0)
    assert figures.warnings(guessing) == ["waiting workers used 10% of a core", "DID NOT LEARN"]
    assert figures.warnings(Result("x", [1.0], steps=100, loss=2.4)) == []
    assert figures.warnings(Result("x", [1.0], steps=1, loss=float("nan"))) == ["DID NOT LEARN"]

"""What the benchmark makes of the times of updates; on made-up figures."""

from bench.updates import BASE, Contender, plan_line, report


def contender(name, ms, trace_s, state_mb=10.0):
    return Contender(name, trace_s, trace_s / 2, state_mb, ms)


FOUND = [
    contender("keras", [30.0, 42.0, 36.0], 2.0),
    contender("keras MultiOptimizer of 3", [24.0, 21.0, 27.0], 4.0),
    contender("gradloop, 1 group", [10.0, 10.0, 10.0], 0.7),
    contender(BASE, [12.0, 14.0, 12.0], 0.9),
    contender("gradloop, 100 groups", [10.2, 10.4, 10.3], 1.5, 10.1),
]


def test_report():
    title, head, keras, *rest = report("ResNet50", "adam", FOUND).splitlines()
    assert title == "update of ResNet50, Adam (3 rounds)" and head.split()[:3] == ["optimizer", "ms", "time"]
    assert keras.split() == ["keras", "36.0", "3.00x", "2.00", "1.00", "10.0"]
    assert [line.strip() for line in rest[4:]] == [
        "keras / gradloop: 3.000 (wanted >= 2): reached",
        "keras MultiOptimizer of 3 / gradloop: 2.000 (wanted >= 2): met",
        "trace, gradloop / keras: 0.450 (wanted <= 0.4): missed",
        "trace in a TrainStep, gradloop / keras: 0.225 (wanted <= 0.4): reached",
        "100 groups / 1 group: 1.030 (wanted <= 1.03): met",
        "state, gradloop / keras: 1.010 (wanted <= 1): missed",
    ]


def test_targets_are_of_their_case():
    text = report("MobileNetV2", "momentum", FOUND)
    assert "keras / gradloop: 3" not in text and "100 groups / 1 group" not in text
    assert "trace in a TrainStep" in text and "trace, gradloop" not in text


def test_plan():
    assert plan_line(0.25) == "  seconds to plan 1,000 layers: 0.250 (wanted <= 0.5): met"

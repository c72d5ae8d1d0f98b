"""What a report looks like."""

from gradloop.loops.preflight_checks.report import Finding, Report


def test_a_report_reads_well():
    finding = Finding("input_range", "values reach 255", "divide them by 255 " + "or so " * 20)
    report = Report([finding], {"step": "20 steps ran"}, {"waiting_for_data": "read on the device"}, 1.23)
    assert not report.ok
    assert finding.message.startswith("values reach 255: divide them by 255 or so")
    lines = str(report).splitlines()
    assert lines[0] == "Preflight: 1 finding, 1 checks passed, 1 did not apply (1.2 s)"
    assert lines[1].startswith("  FOUND     input_range       values reach 255: divide them")
    assert lines[2].startswith(" " * 30 + "so or")
    assert lines[-2:] == [
        "  fine      step              20 steps ran",
        "  left out  waiting_for_data  read on the device",
    ]
    assert max(map(len, lines)) <= 100
    assert str(Report([], {}, {}, 0.0)).startswith("Preflight: no findings") and Report([], {}, {}, 0.0).ok

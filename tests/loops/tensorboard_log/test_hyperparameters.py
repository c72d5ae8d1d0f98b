"""Runs compared, as the HParams tab does it."""

import numpy as np
import pytest
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from gradloop import loops


def _read(folder):
    """What the tab asks for: the experiment, and a session for each run by its name."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    statuses = list(api_pb2.Status.values())
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=99, allowed_statuses=statuses)
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    experiment = get_experiment.Handler(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    return experiment, {group.name: group for group in groups}


def test_a_run(logged):
    experiment, groups = _read(logged.folder)
    assert {info.name for info in experiment.hparam_infos} == {"rate", "net", "plain"}
    metrics = {f"final/{name}" for name in logged.history}
    assert {info.name.tag for info in experiment.metric_infos} == metrics and len(metrics) == 4
    group = groups["hparams"]
    assert group.hparams["rate"].number_value == 0.1 and group.hparams["net"].string_value == "small"
    assert group.hparams["plain"].bool_value is True
    for metric in group.metric_values:
        assert metric.training_step == 2
        expected = logged.history[metric.name.tag.removeprefix("final/")][-1]
        np.testing.assert_allclose(metric.value, expected, rtol=1e-6)
    [session] = group.sessions
    assert session.status == api_pb2.STATUS_SUCCESS
    assert 0 < session.start_time_secs <= session.end_time_secs


class Breaks(loops.StepsCallback):
    def __init__(self, epoch):
        super().__init__()
        self.at = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            raise RuntimeError("broken")


def test_several_runs_of_which_one_fails_and_resumes(tmp_path, tiny):
    def run(name, hparams, *others):
        callbacks = [loops.TensorBoard(tmp_path / "logs" / name, hparams=hparams), *others]
        step, kept = tiny.step(), tmp_path / "kept" / name
        return loops.train(step, tiny.data(), epochs=2, callbacks=callbacks, checkpoint=kept).history

    run("one", {"rate": np.float32(0.5)})
    with pytest.raises(RuntimeError, match="broken"):
        run("two", {"rate": 0.25, "also": "here"}, Breaks(1))
    experiment, groups = _read(tmp_path / "logs")
    assert {info.name for info in experiment.hparam_infos} == {"rate", "also"}  # of both runs
    assert [info.name.tag for info in experiment.metric_infos] == ["final/loss"]
    status = {name: group.sessions[0].status for name, group in groups.items()}
    assert status == {"one/hparams": api_pb2.STATUS_SUCCESS, "two/hparams": api_pb2.STATUS_FAILURE}
    assert groups["two/hparams"].metric_values[0].training_step == 1

    history = run("two", {"rate": 0.25, "also": "here"})
    _, groups = _read(tmp_path / "logs")
    group = groups["two/hparams"]
    assert group.sessions[0].status == api_pb2.STATUS_SUCCESS and len(group.sessions) == 1
    [metric] = group.metric_values
    assert metric.training_step == 2
    np.testing.assert_allclose(metric.value, history["loss"][-1], rtol=1e-6)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({}, "`hparams` is an empty dict: name what differs between runs, or pass None"),
        ({"rate": float("nan")}, "`hparams` must map names to finite numbers, got 'rate': nan"),
        ({"seed": 10**400}, "`hparams` must map names to finite numbers, got 'seed': 1000"),
        ({"rate": np.float32("inf")}, "`hparams` must map names to finite numbers, got 'rate': inf"),
    ],
)
def test_refused(tmp_path, hparams, message):
    with pytest.raises(ValueError, match=message):
        loops.TensorBoard(tmp_path, hparams=hparams)

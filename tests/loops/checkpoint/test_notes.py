"""What a checkpoint says beside its values has the keys that are written down, the format on disk."""

from gradloop import loops
from gradloop.loops.checkpoint.notes import (
    CallbackState,
    GroupSettings,
    Note,
    ObjectNote,
    RunNote,
    TrainedVariables,
)
from gradloop.loops.checkpoint.tensor_file import TensorFile


def test_the_note_of_a_run(tiny, tmp_path):
    callbacks = [loops.Unfreeze({0: "head", 1: "body"})]
    loops.train(tiny.grouped_step(), tiny.data(), epochs=2, callbacks=callbacks, checkpoint=tmp_path)
    note = TensorFile(str(tmp_path / "checkpoint-2" / "state")).note
    assert set(note) == set(Note.__annotations__) - {"objects"}
    assert set(note["choice"]) == set(TrainedVariables.__annotations__)
    assert set(note["run"]) == set(RunNote.__annotations__)
    assert list(note["choice"]["groups"]) == ["body", "head"]
    assert all(
        set(group) == set(GroupSettings.__annotations__) for group in note["choice"]["groups"].values()
    )
    assert set(note["run"]["callbacks"]["Unfreeze/0"]) <= set(CallbackState.__annotations__)
    assert (note["run"]["epoch"], note["run"]["batch"], note["run"]["measures"]) == (2, 0, [])


def test_a_step_alone_has_no_run(tiny, tmp_path):
    path = loops.Checkpoint(tmp_path).save(tiny.step())
    note = TensorFile(f"{path}/state").note
    assert set(note) == set(Note.__annotations__) - {"run", "objects", "metrics", "modes"}
    assert note["data"] is None and note["choice"]["groups"] is None


def test_a_dict_has_a_note_of_each_object(tmp_path):
    note = TensorFile(f"{loops.Checkpoint(tmp_path).save({'best': 0.5})}/state").note
    assert set(note) == {"format", "objects", "data"}
    assert set(note["objects"]["best"]) == set(ObjectNote.__annotations__)

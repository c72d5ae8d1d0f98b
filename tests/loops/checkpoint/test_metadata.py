"""What a checkpoint says beside its values has the keys that are written down, the format on disk."""

from gradloop import loops
from gradloop.loops.checkpoint.metadata import (
    CallbackState,
    GroupSettings,
    Metadata,
    ObjectMetadata,
    RunMetadata,
    TrainedVariables,
)
from gradloop.loops.checkpoint.tensor_file import TensorFile


def test_the_note_of_a_run(tiny, tmp_path):
    callbacks = [loops.Unfreeze({0: "head", 1: "body"})]
    loops.train(tiny.grouped_step(), tiny.data(), epochs=2, callbacks=callbacks, checkpoint=tmp_path)
    metadata = TensorFile(str(tmp_path / "checkpoint-2" / "state")).metadata
    assert set(metadata) == set(Metadata.__annotations__) - {"objects"}
    assert set(metadata["choice"]) == set(TrainedVariables.__annotations__)
    assert set(metadata["run"]) == set(RunMetadata.__annotations__)
    assert list(metadata["choice"]["groups"]) == ["body", "head"]
    assert all(
        set(group) == set(GroupSettings.__annotations__) for group in metadata["choice"]["groups"].values()
    )
    assert set(metadata["run"]["callbacks"]["Unfreeze/0"]) <= set(CallbackState.__annotations__)
    assert (metadata["run"]["epoch"], metadata["run"]["batch"], metadata["run"]["measures"]) == (2, 0, [])


def test_a_step_alone_has_no_run(tiny, tmp_path):
    path = loops.Checkpoint(tmp_path).save(tiny.step())
    metadata = TensorFile(f"{path}/state").metadata
    assert set(metadata) == set(Metadata.__annotations__) - {"run", "objects", "metrics", "modes"}
    assert metadata["data"] is None and metadata["choice"]["groups"] is None


def test_a_dict_has_a_note_of_each_object(tmp_path):
    metadata = TensorFile(f"{loops.Checkpoint(tmp_path).save({'best': 0.5})}/state").metadata
    assert set(metadata) == {"format", "objects", "data"}
    assert set(metadata["objects"]["best"]) == set(ObjectMetadata.__annotations__)

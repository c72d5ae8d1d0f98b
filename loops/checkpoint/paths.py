"""Where in the folder of a checkpoint its parts are."""


def state_in(checkpoint: str) -> str:
    """The path of the values in the folder of a checkpoint, as `TensorFile` takes it."""
    return f"{checkpoint}/state"


def iterator_in(checkpoint: str) -> str:
    """The path of the dataset's iterator in the folder of a checkpoint."""
    return f"{checkpoint}/iterator"

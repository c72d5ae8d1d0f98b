"""A run that ends in its seventh step, as by a power cut."""

from gradloop import loops


class Cut(loops.StepsCallback):
    def steps_allowed(self, done):
        return 7 - done if done < 7 else None

    def on_train_steps_end(self, first, values):
        if first - 1 + len(values["loss"]) == 7:
            raise OSError("power cut")

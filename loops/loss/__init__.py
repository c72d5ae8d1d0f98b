"""From a model's outputs to a loss and metrics."""

"""A look at a step and its data before a long run."""

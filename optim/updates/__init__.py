"""How one variable is updated."""

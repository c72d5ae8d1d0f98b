"""Arguments that several networks take."""

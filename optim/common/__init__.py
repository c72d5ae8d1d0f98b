"""Arguments, messages and tables."""

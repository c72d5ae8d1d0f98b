"""Which devices take part, and who reads which examples."""

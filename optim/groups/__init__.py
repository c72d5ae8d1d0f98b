"""Which variable belongs to which group, with which settings."""

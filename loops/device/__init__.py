"""Many steps in one call of the device."""

"""Networks written here."""

"""Event streams and waiting requests."""

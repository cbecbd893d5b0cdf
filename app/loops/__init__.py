"""Background loops: they decide when to call services."""

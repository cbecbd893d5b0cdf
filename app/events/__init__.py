"""Events: one reader per process broadcasts them to streams and waiting requests."""

"""Events: broadcast to streams and waiting requests."""

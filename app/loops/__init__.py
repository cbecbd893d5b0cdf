"""Background loops, which decide when services run."""

"""Tasks: routes, admission, lifecycle and retention."""

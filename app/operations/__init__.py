"""What operators look at: liveness and readiness."""

"""How fast the service is, measured beside a FastAPI endpoint that does nothing. See docs/explanation/performance.md."""

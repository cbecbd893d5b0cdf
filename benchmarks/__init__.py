"""Benchmarks of the service; see docs/explanation/performance.md."""

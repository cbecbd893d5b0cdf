"""Loops: when services are called, never what they do."""

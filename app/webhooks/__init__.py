"""Webhooks to clients: planned deliveries, signatures, attempts, and their log."""

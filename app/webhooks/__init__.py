"""Webhooks to clients: deliveries, signatures, attempts, and their log."""

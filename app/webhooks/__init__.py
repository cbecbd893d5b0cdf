"""Webhooks to clients: deliveries, signatures, and the delivery log."""

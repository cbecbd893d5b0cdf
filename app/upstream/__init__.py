"""The vendor's protocol and client, and sending tasks to it."""

"""The vendor: its protocol, and the client that speaks it."""

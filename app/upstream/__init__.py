"""The vendor: its protocol, its client, and the tasks sent to it."""

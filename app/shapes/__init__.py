"""JSON shapes that clients receive: each is one class, both sent and documented."""

"""What clients receive: each shape is one class that is both sent and documented."""

"""A runnable imitation of the vendor, faults included."""

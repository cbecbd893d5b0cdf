"""A runnable simulator of the vendor, faults included."""

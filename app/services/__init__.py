"""What the service can do. The only place that opens transactions; no HTTP happens inside one."""

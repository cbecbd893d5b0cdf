"""JSON shapes for clients. One class both encodes and documents."""

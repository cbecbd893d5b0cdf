"""HTTP/1.1, as uvicorn speaks it, within limits and at less cost for each request."""

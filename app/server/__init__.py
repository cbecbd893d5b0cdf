"""The HTTP server: uvicorn, with limits on what a client may send. It knows ASGI and nothing of the application."""

"""The HTTP server: uvicorn with limits, for any ASGI application."""

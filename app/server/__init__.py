"""The HTTP server: uvicorn with limits. It knows ASGI, not the application."""

"""A self-hosted gateway to the NanoBanana image API."""

__version__ = "0.1.0"

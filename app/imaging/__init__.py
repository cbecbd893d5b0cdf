"""Inspects untrusted images, strips their metadata, and makes thumbnails."""

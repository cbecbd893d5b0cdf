"""Untrusted images: checked by their bytes, stripped of metadata, scaled to thumbnails."""

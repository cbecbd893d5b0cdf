"""Image bytes: one code path for a directory and for S3-compatible stores."""

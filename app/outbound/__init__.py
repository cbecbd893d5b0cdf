"""Requests to user-supplied URLs: every connection is checked against SSRF."""

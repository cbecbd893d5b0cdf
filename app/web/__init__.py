"""Shared by all routes: middleware, bodies, headers, errors, pagination, the OpenAPI document."""

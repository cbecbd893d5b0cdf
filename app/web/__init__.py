"""HTTP code shared by all routes, from middleware to OpenAPI."""

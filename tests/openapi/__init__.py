"""npm linters for the OpenAPI document."""

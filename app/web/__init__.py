"""What all routes share: middleware, bodies, headers, problems, pagination, the OpenAPI document."""

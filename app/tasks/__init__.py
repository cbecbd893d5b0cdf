"""What clients do with tasks: routes, rules of admission, the service, and what removes old tasks."""

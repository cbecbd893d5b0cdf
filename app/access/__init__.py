"""API keys, browser tokens, projects and secrets."""

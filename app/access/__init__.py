"""Who may call: API keys, browser tokens, projects, signing secrets."""

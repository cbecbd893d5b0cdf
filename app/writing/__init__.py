"""How concurrent work reaches the database: batched, shared and leased."""

"""How concurrent work reaches the database and the store: batched, shared and leased."""

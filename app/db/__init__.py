"""Tables and statements. Nothing here decides anything or opens a transaction."""

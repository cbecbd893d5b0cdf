"""When things are done, never what: each loop calls a service, again and again."""

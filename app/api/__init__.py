"""HTTP in: parse, call one service, answer. No SQL, no outgoing HTTP."""

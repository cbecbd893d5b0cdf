"""Tables and SQL statements.

Callers apply the rules and open the transactions.
"""

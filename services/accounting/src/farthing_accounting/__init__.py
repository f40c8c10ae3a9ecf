"""Keys, budgets, reservations; the ledger that says what every token cost."""

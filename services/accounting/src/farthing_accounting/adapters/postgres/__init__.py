"""The books, prices, budgets, policies and keys in PostgreSQL."""

"""Accounting's way to Redis, PostgreSQL and NATS."""

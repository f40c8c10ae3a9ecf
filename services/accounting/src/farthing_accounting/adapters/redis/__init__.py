"""Reservations and counters in Redis."""

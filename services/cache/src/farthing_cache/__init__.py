"""Answers that were already paid for."""

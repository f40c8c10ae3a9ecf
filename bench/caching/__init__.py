"""Measures of the cache: what it serves, what it serves wrongly, how fast, and for whom."""

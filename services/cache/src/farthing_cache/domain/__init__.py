"""What the cache is about, without time, network or randomness."""

"""What the gateway decides, without time, network or randomness."""

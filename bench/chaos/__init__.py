"""The chaos lane: what is measured while parts of a whole mesh are killed, away or full."""

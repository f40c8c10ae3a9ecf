"""How good, how fast and how cheap routing is. Each part is a module with `run(arguments)`; see __main__."""

"""`farthing up`: the whole mesh on one machine, as child processes."""

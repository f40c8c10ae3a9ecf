"""What inference knows without any I/O: pools, health, where a generation goes, and how it is described."""

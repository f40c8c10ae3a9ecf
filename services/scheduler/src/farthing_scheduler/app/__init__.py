"""What the scheduler does, one module per use case."""

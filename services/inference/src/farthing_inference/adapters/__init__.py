"""The world outside: files, chat templates, Triton, metrics."""

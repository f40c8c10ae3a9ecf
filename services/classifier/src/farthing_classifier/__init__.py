"""Reads a prompt once: complexity, task, expected length, embedding."""

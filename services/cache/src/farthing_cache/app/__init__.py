"""The use cases of the cache: a module for each."""

"""The schema, as numbered SQL files that are applied once each, in order, at start."""

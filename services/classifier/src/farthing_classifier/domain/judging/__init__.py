"""Whether an answer will do, from the answer itself: pure functions with bounds, for any text."""

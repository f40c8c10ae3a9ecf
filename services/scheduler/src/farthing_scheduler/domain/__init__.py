"""The rules of the queue: values and decisions, without time, network or libraries of either."""

"""When a request runs: priorities, deadlines, durable jobs."""

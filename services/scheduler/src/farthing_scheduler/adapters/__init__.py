"""The scheduler's ways to NATS and to inference."""

"""Redis, NATS and Prometheus behind the ports of the cache."""

"""The other services, NATS and telemetry behind the ports of the gateway."""

"""What every Farthing service stands on: servers, clients, settings, telemetry, testing."""

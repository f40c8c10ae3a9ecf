"""Redis behind the ports of the cache: one client, and a store for each kind of thing."""

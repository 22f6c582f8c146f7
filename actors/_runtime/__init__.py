"""The runtime: bus, worker loop, configuration, supervision. The only room that imports nats-py."""

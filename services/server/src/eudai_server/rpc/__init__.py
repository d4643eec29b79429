"""The inbound edge: the only place that knows gRPC and the stubs."""

"""The inbound edge: the only package that knows gRPC and the stubs."""

"""What every RPC needs of gRPC: the listener, calls, and messages."""

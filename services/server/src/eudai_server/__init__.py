"""A gRPC server in front of Ollama."""

__version__ = "0.1.0"

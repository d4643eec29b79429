"""The typed door in front of a local model: a gRPC service that answers with Ollama."""

__version__ = "0.1.0"

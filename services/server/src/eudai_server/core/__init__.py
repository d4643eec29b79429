"""Requests, events, failures and limits. Knows neither gRPC nor Ollama."""

"""Converts requests to Ollama's JSON, and Ollama's JSON to events and failures. No I/O."""

"""HTTP to Ollama."""

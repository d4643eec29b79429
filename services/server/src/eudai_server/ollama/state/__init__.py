"""What the server knows about Ollama: its models, which are loaded, and which hang."""

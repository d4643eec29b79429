"""The outbound edge: the only place that knows Ollama and HTTP."""

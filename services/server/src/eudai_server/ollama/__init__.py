"""The outbound edge: the only package that knows Ollama and HTTP."""

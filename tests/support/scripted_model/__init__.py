"""Builds a small GGUF model with which a real Ollama answers exactly the scripted texts."""

from scripted_model.model import write_model
from scripted_model.projector import write_projector
from scripted_model.script import Script

__all__ = ["Script", "write_model", "write_projector"]

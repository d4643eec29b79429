"""Scripts go in; a small GGUF model comes out with which a real Ollama answers exactly these texts."""

from scripted_model.model import write_model
from scripted_model.projector import write_projector
from scripted_model.script import Script

__all__ = ["Script", "write_model", "write_projector"]

"""Client of eudai, the typed door in front of a local model."""

__version__ = "0.1.0"

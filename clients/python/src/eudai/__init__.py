"""Python client of eudai: the stubs (`eudai.v1`), options for channels, and the command line."""

from eudai.channel import CHANNEL_OPTIONS, SERVICE_CONFIG

__all__ = ["CHANNEL_OPTIONS", "SERVICE_CONFIG"]
__version__ = "0.1.0"

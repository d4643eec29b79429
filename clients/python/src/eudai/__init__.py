"""Python client of eudai: the stubs in `eudai.v1`, what a channel should be opened with, and the command line."""

from eudai.channel import CHANNEL_OPTIONS, SERVICE_CONFIG

__all__ = ["CHANNEL_OPTIONS", "SERVICE_CONFIG"]
__version__ = "0.1.0"

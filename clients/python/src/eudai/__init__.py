"""Python client of eudai, a gRPC server in front of Ollama.

`Client` and `AsyncClient` are the clients; `eudai.v1` has the messages and stubs of the contract.
Names are imported when they are first used, so that `import eudai` takes almost no time.
"""

TYPE_CHECKING = False  # type checkers read it as true; typing is slow to import

if TYPE_CHECKING:
    from eudai.aio.chat import AsyncChat as AsyncChat
    from eudai.aio.client import AsyncClient as AsyncClient
    from eudai.aio.stream import AsyncStream as AsyncStream
    from eudai.aio.transfer import AsyncTransfer as AsyncTransfer
    from eudai.channel import CHANNEL_OPTIONS as CHANNEL_OPTIONS, SERVICE_CONFIG as SERVICE_CONFIG
    from eudai.connection import ConnectionOptions as ConnectionOptions
    from eudai.content import (
        assistant_message as assistant_message,
        media_from as media_from,
        system_message as system_message,
        tool_message as tool_message,
        user_message as user_message,
    )
    from eudai.errors import *  # noqa: F403
    from eudai.formats import format_from as format_from
    from eudai.reason_errors import *  # noqa: F403
    from eudai.requests import (
        CallOptions as CallOptions,
        EmbedOptions as EmbedOptions,
        GenerateOptions as GenerateOptions,
        LoadFields as LoadFields,
    )
    from eudai.results import (
        GenerationWarning as GenerationWarning,
        Result as Result,
        Timings as Timings,
        ToolCall as ToolCall,
        Usage as Usage,
    )
    from eudai.sync.chat import Chat as Chat
    from eudai.sync.client import Client as Client
    from eudai.sync.stream import Stream as Stream
    from eudai.sync.transfer import Transfer as Transfer
    from eudai.tool_schema import tool_from as tool_from

__version__ = "0.1.0"

_MODULES = {
    "aio.chat": ("AsyncChat",),
    "aio.client": ("AsyncClient",),
    "aio.stream": ("AsyncStream",),
    "aio.transfer": ("AsyncTransfer",),
    "channel": ("CHANNEL_OPTIONS", "SERVICE_CONFIG"),
    "connection": ("ConnectionOptions",),
    "content": (
        "assistant_message",
        "media_from",
        "system_message",
        "tool_message",
        "user_message",
    ),
    "errors": ("Violation",),
    "formats": ("format_from",),
    "requests": ("CallOptions", "EmbedOptions", "GenerateOptions", "LoadFields"),
    "results": ("GenerationWarning", "Result", "Timings", "ToolCall", "Usage"),
    "sync.chat": ("Chat",),
    "sync.client": ("Client",),
    "sync.stream": ("Stream",),
    "sync.transfer": ("Transfer",),
    "tool_schema": ("tool_from",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_ERROR_MODULES = ("errors", "reason_errors")
__all__ = list(_MODULE_OF)  # and all errors


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        from importlib import import_module  # noqa: PLC0415 - slow to import

        module = _MODULE_OF.get(name)
        for each in [module] if module else _ERROR_MODULES if name.endswith("Error") else ():
            if (value := getattr(import_module(f"eudai.{each}"), name, None)) is not None:
                return globals().setdefault(name, value)
        raise AttributeError(f"module 'eudai' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted({*globals(), *_MODULE_OF})

"""A conversation that remembers, for asyncio."""

from collections.abc import Callable, Sequence
from typing import Unpack

from eudai.aio.stream import AsyncStream
from eudai.conversation import ROUNDS_MAX, Conversation, rounds
from eudai.requests import GenerateOptions
from eudai.results import Result
from eudai.tools import Toolbox
from eudai.v1.content_pb2 import Message


class AsyncChat:
    """A conversation with a model, as `Chat`, for asyncio.

    >>> chat = async_client.chat("gemma3:270m", system="Be brief.")
    >>> async with chat.send("hi") as stream:
    ...     print((await stream.result()).text)
    Hello there!
    >>> len(chat.messages)
    2
    """

    def __init__(
        self,
        stream: Callable[..., AsyncStream],
        model: str,
        messages: Sequence[Message],
        options: GenerateOptions,
    ) -> None:
        """Created by `AsyncClient.chat`."""
        self._stream = stream
        self._conversation = Conversation(model, messages, options)

    @property
    def messages(self) -> list[Message]:
        """The messages so far, oldest first. The list may be changed between generations."""
        return self._conversation.messages

    def send(self, text: str = "", **options: Unpack[GenerateOptions]) -> AsyncStream:
        """Stream the answer to a message; see `Chat.send`."""
        turn = self._conversation.turn(text, options)
        return self._stream(turn.model, turn.messages, turn.options, turn.finish)

    async def run(
        self,
        text: str = "",
        *,
        rounds_max: int = ROUNDS_MAX,
        send_errors: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Result:
        """Answer a message, and run the tools that the model calls; see `Chat.run`.

        Tools may be coroutine functions. Others run in a thread.
        """
        turn = self._conversation.turn(text, options)
        toolbox = Toolbox(turn.options.get("tools") or (), send_errors=send_errors)
        for _ in rounds(rounds_max):
            async with self._stream(turn.model, turn.messages, turn.options) as stream:
                result = await stream.result()
            if not result.tool_calls:
                turn.finish(result)
                return result
            turn.add(result.message)
            for call in result.tool_calls:
                turn.add(await toolbox.run_async(call))
        raise turn.rounds_error(rounds_max, result)

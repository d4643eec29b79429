"""A conversation that remembers."""

from collections.abc import Callable, Sequence
from typing import Unpack

from eudai.conversation import ROUNDS_MAX, Conversation, rounds
from eudai.requests import GenerateOptions
from eudai.results import Result
from eudai.sync.stream import Stream
from eudai.tools import Toolbox
from eudai.v1.content_pb2 import Message


class Chat:
    """A conversation with a model. Messages are added only when an answer is complete.

    If a generation fails or its block is left early, nothing is added, not even the message of the
    user, so that `send` can be repeated. A chat can have one running generation.

    >>> chat = client.chat("gemma3:270m", system="Be brief.")
    >>> with chat.send("hi") as stream:
    ...     print("".join(stream.text))
    Hello there!
    >>> len(chat.messages)
    2
    """

    def __init__(
        self,
        stream: Callable[..., Stream],
        model: str,
        messages: Sequence[Message],
        options: GenerateOptions,
    ) -> None:
        """Created by `Client.chat`."""
        self._stream = stream
        self._conversation = Conversation(model, messages, options)

    @property
    def messages(self) -> list[Message]:
        """The messages so far, oldest first. The list may be changed between generations.

        >>> chat = client.chat("gemma3:270m", messages=[eudai.user_message("Remember 7.")])
        >>> chat.messages[0].parts[0].text
        'Remember 7.'
        """
        return self._conversation.messages

    def send(self, text: str = "", **options: Unpack[GenerateOptions]) -> Stream:
        """Stream the answer to a message. Without text and media, to the messages so far.

        >>> with client.chat("gemma3:270m").send("hi", temperature=0) as stream:
        ...     print(stream.result().text)
        Hello there!
        """
        turn = self._conversation.turn(text, options)
        return self._stream(turn.model, turn.messages, turn.options, turn.finish)

    def run(
        self,
        text: str = "",
        *,
        rounds_max: int = ROUNDS_MAX,
        send_errors: bool = False,
        **options: Unpack[GenerateOptions],
    ) -> Result:
        """Answer a message, and run the tools that the model calls, until it calls none.

        `tools` are functions whose parameters have annotations; see `tool_from`. After `rounds_max`
        generations that called tools, raises ToolRoundsError. An error in a tool, and a call that
        does not fit the tool, are raised; if `send_errors` is true, the model gets their text
        instead, which may tell it something about this program.

        >>> def now() -> str:
        ...     "Tell the time."
        ...     return "12:00"
        >>> client.chat("gemma3:270m").run("call now, please", tools=[now]).text
        'The tool said 12:00'
        """
        turn = self._conversation.turn(text, options)
        toolbox = Toolbox(turn.options.get("tools") or (), send_errors=send_errors)
        for _ in rounds(rounds_max):
            with self._stream(turn.model, turn.messages, turn.options) as stream:
                result = stream.result()
            if not result.tool_calls:
                turn.finish(result)
                return result
            turn.add(result.message)
            for call in result.tool_calls:
                turn.add(toolbox.run(call))
        raise turn.rounds_error(rounds_max, result)

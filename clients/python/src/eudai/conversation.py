"""What the chats of both clients share: the history, and the messages of one turn."""

from collections.abc import Sequence

from eudai.content import user_message
from eudai.errors import ToolRoundsError
from eudai.requests import GenerateOptions
from eudai.results import Result
from eudai.v1.content_pb2 import Message

ROUNDS_MAX = 8


class Conversation:
    """A model, the options of its generations, and the messages so far, oldest first."""

    def __init__(self, model: str, messages: Sequence[Message], options: GenerateOptions) -> None:
        """Start with messages of an earlier conversation, if there are any."""
        self.model = model
        self.messages = list(messages)
        self.options = options

    def turn(self, text: str, options: GenerateOptions) -> "Turn":
        """Start a turn with a message of the user; without text and media, with none."""
        merged: GenerateOptions = {**self.options, **options}
        media = merged.pop("media", None) or ()
        return Turn(self, [user_message(text, media)] if text or media else [], merged)


def rounds(rounds_max: int) -> range:
    """The rounds of a turn with tools. Raises ValueError if there are none."""
    if rounds_max < 1:
        raise ValueError(f"rounds_max must be at least 1, not {rounds_max}")
    return range(rounds_max)


class Turn:
    """New messages, which become part of the conversation together or not at all."""

    def __init__(
        self, conversation: Conversation, new: list[Message], options: GenerateOptions
    ) -> None:
        """`new` are the messages of the user."""
        self._conversation = conversation
        self._new = new
        self.model = conversation.model
        self.options = options

    @property
    def messages(self) -> list[Message]:
        """The conversation with the new messages."""
        return [*self._conversation.messages, *self._new]

    def add(self, message: Message) -> None:
        """Add a message."""
        self._new.append(message)

    def finish(self, result: Result) -> None:
        """Add the answer, and make the new messages part of the conversation."""
        self.add(result.message)
        self._conversation.messages += self._new

    def rounds_error(self, rounds_max: int, result: Result) -> ToolRoundsError:
        """The error for a model that still calls tools after the last round."""
        return ToolRoundsError(
            f"the model still called tools after {rounds_max} rounds; raise rounds_max",
            self.messages,
            result,
        )

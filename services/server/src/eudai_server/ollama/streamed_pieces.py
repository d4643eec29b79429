"""Pieces of an answer go in; what Ollama did to the answer without saying so comes out. As of Ollama 0.32.15."""

import re
from collections.abc import Sequence

from eudai_server.events import Finished, FinishReason, GenerationWarning, GenerationWarningCode

# Ollama gives up after the 31st repetition of a piece, white space aside. The last is not sent, and
# white space counts from the beginning of an answer on.
EQUAL_PIECES_SENT_MIN = 30
# The tags around thoughts and texts are tokens too, of which nothing is sent. Harmony has the most:
# eleven. The calls of real models are longer, but for the shortest.
TAG_TOKENS_MAX = 12
# The same where nothing at all was sent: the end of the answer, and an empty thought.
END_TOKENS_MAX = 4

_WORD_CHARACTERS = re.compile(r"[0-9A-Za-z]+")


class StreamedPieces:
    """Counts the pieces of one answer, reasoning included."""

    def __init__(self, *, count_tokens: bool) -> None:
        """`count_tokens` is needed for `loss_warning`, and takes a microsecond for each piece."""
        self._count_tokens = count_tokens
        self._last = ""
        self._equal = 0
        self._tokens_max = 0
        self._count = 0

    def add(self, text: str) -> None:
        """Count one piece. Empty ones, which carry log probabilities alone, do not count."""
        if not text:
            return
        trimmed = text.strip()
        self._equal = self._equal + 1 if trimmed == self._last else 1
        self._last = trimmed
        self._count += 1
        if not self._count_tokens:
            return
        # A piece is one token, unless Ollama held some back to join them: those of an unfinished
        # character, white space, and what may be the beginning of a tag.
        self._tokens_max += 1 + len(_WORD_CHARACTERS.sub("", text).encode())

    @property
    def are_repeating(self) -> bool:
        """Whether Ollama gives up after the last piece, as it does without a word."""
        return self._equal >= EQUAL_PIECES_SENT_MIN

    def loss_warning(
        self, finished: Finished, stop_sequences: Sequence[str]
    ) -> GenerationWarning | None:
        """The warning that an answer needs that has tokens of which nothing was sent; None for none."""
        if not self._count_tokens or finished.reason is not FinishReason.STOP:
            return None
        # A stop sequence that was met is not sent.
        spared = max((len(text.encode()) for text in stop_sequences), default=0)
        spared += TAG_TOKENS_MAX if self._count else END_TOKENS_MAX
        lost = (finished.usage.output_tokens or 0) - self._tokens_max
        if lost <= spared:
            return None
        return GenerationWarning(
            GenerationWarningCode.TOOL_CALL_LOST,
            f"the model generated at least {lost} tokens that Ollama did not send; most likely it "
            "wrote a tool call that Ollama could not parse",
            "tools",
        )

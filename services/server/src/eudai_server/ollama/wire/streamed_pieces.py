"""Detects what Ollama does to an answer without reporting it (as of Ollama 0.32.15).

Ollama stops an answer that repeats itself, and drops a tool call that it cannot parse.
"""

import re
from collections.abc import Sequence

from eudai_server.core.events import (
    Finished,
    FinishReason,
    GenerationWarning,
    GenerationWarningCode,
)

# Ollama stops after the 31st repetition of a piece, ignoring white space. It does not send the last
# one, and white space at the beginning of an answer counts.
EQUAL_PIECES_SENT_MIN = 30
# Tags around reasoning and text are tokens too, and are not sent. Harmony has the most: eleven.
# Nearly all tool calls of real models are longer.
TAG_TOKENS_MAX = 12
# The same if nothing at all was sent: the end of the answer and an empty reasoning.
END_TOKENS_MAX = 4

_WORD_CHARACTERS = re.compile(r"[0-9A-Za-z]+")


class StreamedPieces:
    """Counts the pieces of one answer, including reasoning."""

    def __init__(self, *, count_tokens: bool) -> None:
        """`count_tokens` is needed for `loss_warning` and takes a microsecond per piece."""
        self._count_tokens = count_tokens
        self._last = ""
        self._equal = 0
        self._tokens_max = 0
        self._count = 0

    def add(self, text: str) -> None:
        """Count one piece. Empty pieces, which only carry log probabilities, do not count."""
        if not text:
            return
        trimmed = text.strip()
        self._equal = self._equal + 1 if trimmed == self._last else 1
        self._last = trimmed
        self._count += 1
        if not self._count_tokens:
            return
        # A piece is one token, unless Ollama held back several to join them: parts of a character,
        # white space, or what may be the start of a tag.
        self._tokens_max += 1 + len(_WORD_CHARACTERS.sub("", text).encode())

    @property
    def are_repeating(self) -> bool:
        """Whether Ollama stops after the last piece, which it does not report."""
        return self._equal >= EQUAL_PIECES_SENT_MIN

    def loss_warning(
        self, finished: Finished, stop_sequences: Sequence[str]
    ) -> GenerationWarning | None:
        """A warning if the answer has tokens that Ollama did not send; None if not."""
        if not self._count_tokens or finished.reason is not FinishReason.STOP:
            return None
        # A stop sequence that ended the answer is not sent.
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

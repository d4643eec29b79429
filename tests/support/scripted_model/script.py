"""Splits scripts into tokens, none of which occurs twice in a file."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# About as long as the tokens of real models.
TOKEN_CHARS = 4
# Some parsers of Ollama find a tag only if it arrives whole, which real models ensure by a token
# of its own. Tags that end an answer are split: llama.cpp would end the answer there.
_END_TAG = (
    r"<\|(?:end|return|calls?|im_end|eo[tm]_id|end_?of_?text|endoftext)\|>|</s>|<eos>|<end_of_turn>"
)
_UNIT = re.compile(rf"(?!{_END_TAG})<[^<>\s]+>|\[/?[A-Z_]+\]|.", re.DOTALL)


@dataclass(frozen=True)
class Script:
    """What the model writes: a text, or exact tokens, which may end within a UTF-8 character.

    A token occurs once in a file and has at least two bytes. A script that repeats starts again
    after its last token and never ends.
    """

    text: str = ""
    tokens: tuple[bytes, ...] = ()
    repeats: bool = False


def tokens_of(scripts: Mapping[str, Script]) -> dict[str, tuple[bytes, ...]]:
    """The tokens of every script. Raises ValueError for scripts that cannot be distinguished."""
    taken: set[bytes] = set()
    found = {name: script.tokens for name, script in scripts.items() if script.tokens}
    for token in (token for tokens in found.values() for token in tokens):
        if token in taken or len(token) < 2:
            raise ValueError(f"token {token!r} occurs twice, or is a single byte")
        taken.add(token)
    # The shortest first, because a long text can be split in more ways.
    for name in sorted(scripts, key=lambda name: len(scripts[name].text)):
        if name not in found:
            found[name] = tuple(_cut(scripts[name].text, taken))
    return {name: found[name] for name in scripts}


def _cut(text: str, taken: set[bytes]) -> Iterable[bytes]:
    """Tokens of about four characters; longer if a shorter one is taken already."""
    tokens: list[bytes] = []
    token = b""
    for unit in _lengthened(_UNIT.findall(text)):
        token += unit
        if len(token) > 1 and token not in taken:
            taken.add(token)
            tokens.append(token)
            token = b""
    # Only the token before the rest of the text can be lengthened by it.
    while token:
        if not tokens:
            raise ValueError(f"{text!r} is too short, or another script says it too")
        last = tokens.pop()
        taken.discard(last)
        token = last + token
        if token not in taken:
            taken.add(token)
            tokens.append(token)
            token = b""
    return tokens


def _lengthened(units: Iterable[str]) -> Iterator[bytes]:
    """Characters gathered to the length of a token; tags are tokens of their own."""
    gathered = ""
    for unit in units:
        if len(unit) > 1 or len(gathered) == TOKEN_CHARS:
            if gathered:
                yield gathered.encode()
            gathered = ""
        if len(unit) > 1:
            yield unit.encode()
        else:
            gathered += unit
    if gathered:
        yield gathered.encode()

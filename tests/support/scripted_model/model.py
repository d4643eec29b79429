"""Builds a model of llama.cpp's architecture `mpt` that writes given tokens one after another.

Every token that follows another one has a random code of signs. The embedding of a token is the
code of the token after it, and the output matrix recognizes codes. So the model is a chain: each
token of a script names the next.

A prompt starts a script with `<|play:NAME|>`. The tokens of a prompt have almost no code. The only
attention head finds the last such mark, or else the beginning of the text, and adds the code of the
script's first token, weaker than a token's own code. MPT has ALiBi, which takes one unit of
attention for each token of distance, so that the last mark wins.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from scripted_model.gguf import Tensor, Value, gguf, matrix, vector
from scripted_model.script import Script, tokens_of

WIDTH = 128
CODE = WIDTH - 2  # the last two dimensions mark the positions that the attention head may find
FEED_FORWARD = 32
CONTEXT_LENGTH = 32768

# The sizes of a code: what the attention head adds must win over a prompt's token and lose to a
# script's. Codes overlap by less than 0.5, so each wins by 10 nats at least.
PROMPT_SIZE, HEAD_SIZE, SCRIPT_SIZE = 0.05, 0.3, 1.0
LOGIT_SCALE = 100.0
# A mark in a prompt must win over the beginning of the text at any distance.
BOS_MARK, PLAY_MARK = 4.0, 8.0
QUERY, KEY_SCALE = 1000.0, 100.0

NORMAL, CONTROL = 1, 3  # types of tokens
BOS, EOS = 256, 257


def write_model(path: Path, scripts: Mapping[str, Script], metadata: Mapping[str, Value]) -> None:
    """Write the file. A prompt without a mark gets the first script; `metadata` is added."""
    path.write_bytes(model_bytes(scripts, metadata))


def model_bytes(scripts: Mapping[str, Script], metadata: Mapping[str, Value]) -> bytes:
    """The file's bytes."""
    chain = _Chain(scripts)
    return gguf({**_architecture(), **chain.tokenizer(), **metadata}, _tensors(chain))


class _Chain:
    """The vocabulary: a token for each byte, two control tokens, and each script after its mark."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.texts = [*_BYTE_LETTERS, "<|bos|>", "<|eos|>"]
        self.marks: dict[int, float] = {BOS: BOS_MARK}
        # For each token that does not end the answer by chance: the one after it.
        self.follower: dict[int, int] = {}
        for name, tokens in tokens_of(scripts).items():
            self._append(name, tokens, repeats=scripts[name].repeats)
        first = next(number for number in self.marks if number != BOS)
        self.follower[BOS] = self.follower[first]

    def _append(self, name: str, tokens: Sequence[bytes], *, repeats: bool) -> None:
        mark = len(self.texts)
        self.marks[mark] = PLAY_MARK
        self.texts.append(f"<|play:{name}|>")
        # GPT-2's tokenizer writes each byte as one letter.
        self.texts += ("".join(_BYTE_LETTERS[byte] for byte in token) for token in tokens)
        last = mark + len(tokens)
        self.follower |= {number: number + 1 for number in range(mark, last)}
        self.follower[last] = mark + 1 if repeats else EOS

    def tokenizer(self) -> dict[str, Value]:
        """Byte pairs without merges: a prompt has a token per byte, and none of a script's."""
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": self.texts,
            "tokenizer.ggml.token_type": [
                CONTROL if number in self.marks or number == EOS else NORMAL
                for number in range(len(self.texts))
            ],
            # The list must not be empty. These bytes do not occur in UTF-8.
            "tokenizer.ggml.merges": [f"{_BYTE_LETTERS[0xFE]} {_BYTE_LETTERS[0xFF]}"],
            "tokenizer.ggml.bos_token_id": BOS,
            "tokenizer.ggml.eos_token_id": EOS,
            "tokenizer.ggml.add_bos_token": True,
        }


def _byte_letters() -> Iterator[str]:
    """The letter of each byte in GPT-2's tokenizer: itself where it is printable."""
    unprintable = iter(range(256, 512))
    for byte in range(256):
        is_printable = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE
        yield chr(byte if is_printable else next(unprintable))


_BYTE_LETTERS = tuple(_byte_letters())


def _architecture() -> dict[str, Value]:
    return {
        "general.architecture": "mpt",
        "general.name": "scripted",
        "general.file_type": 1,
        "mpt.context_length": CONTEXT_LENGTH,
        "mpt.embedding_length": WIDTH,
        "mpt.block_count": 1,
        "mpt.feed_forward_length": FEED_FORWARD,
        "mpt.attention.head_count": 1,
        "mpt.attention.layer_norm_epsilon": 1e-5,
        # The slope of ALiBi is 2 to the power of minus this, so 1 for each token of distance.
        "mpt.attention.max_alibi_bias": 1e-6,
    }


def _tensors(chain: _Chain) -> dict[str, Tensor]:
    """One block: the attention head, and a feed-forward part that adds nothing."""
    ones, zeros = [1.0] * WIDTH, [0.0] * WIDTH
    code = [(number, number) for number in range(CODE)]
    embeddings, outputs = _codes(chain)
    query_key_value = [*_square(0.0), *_square(KEY_SCALE, (0, WIDTH - 1)), *_square(1.0, *code)]
    return {
        "token_embd.weight": matrix(embeddings),
        "blk.0.attn_norm.weight": vector(ones),
        "blk.0.attn_qkv.weight": matrix(query_key_value),
        # The query is the same everywhere: any mark.
        "blk.0.attn_qkv.bias": vector([QUERY, *zeros[1:], *zeros, *zeros]),
        "blk.0.attn_output.weight": matrix(_square(HEAD_SIZE, *code)),
        "blk.0.ffn_norm.weight": vector(ones),
        "blk.0.ffn_up.weight": matrix([zeros] * FEED_FORWARD),
        "blk.0.ffn_down.weight": matrix([[0.0] * FEED_FORWARD] * WIDTH),
        "output_norm.weight": vector(ones),
        "output.weight": matrix(outputs),
    }


def _codes(chain: _Chain) -> tuple[list[list[float]], list[list[float]]]:
    """The embeddings, and the rows of the output matrix.

    Every row sums to 0, so that the layer norm, which subtracts the mean, does not change it. The
    probability that two of a thousand random codes overlap by half or more is a few percent. The
    seed is fixed, so a file works either always or never.
    """
    dice = random.Random(0)
    prompt = _balanced(dice)
    code = {number: _balanced(dice) for number in sorted({*chain.follower.values()})}
    embeddings, outputs = [], []
    for number in range(len(chain.texts)):
        mark = chain.marks.get(number, 0.0)
        follows = code[chain.follower[number]] if number in chain.follower else prompt
        size = SCRIPT_SIZE if number in chain.follower else PROMPT_SIZE
        embeddings.append([*(size * sign for sign in follows), -mark, mark])
        scale = LOGIT_SCALE / CODE if number in code else 0.0
        outputs.append([*(scale * sign for sign in code.get(number, prompt)), 0.0, 0.0])
    return embeddings, outputs


def _balanced(dice: random.Random) -> list[float]:
    signs = [1.0, -1.0] * (CODE // 2)
    dice.shuffle(signs)
    return signs


def _square(size: float, *places: tuple[int, int]) -> list[list[float]]:
    """A matrix that is zero except at these places, each a row and a column."""
    rows = [[0.0] * WIDTH for _ in range(WIDTH)]
    for row, column in places:
        rows[row][column] = size
    return rows

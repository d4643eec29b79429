"""Writes an image projector, with which a scripted model accepts images.

It maps every image to embeddings of zeros.
"""

from pathlib import Path

from scripted_model.gguf import Tensor, Value, gguf, matrix, vector
from scripted_model.model import WIDTH

IMAGE_PIXELS = 32
PATCH_PIXELS = 16
PATCHES = (IMAGE_PIXELS // PATCH_PIXELS) ** 2
INNER = 32


def write_projector(path: Path) -> None:
    """Write a GGUF that llama.cpp accepts as `--mmproj`. An image becomes four tokens."""
    path.write_bytes(gguf(_metadata(), _tensors()))


def _metadata() -> dict[str, Value]:
    return {
        "general.architecture": "clip",
        "general.name": "scripted",
        "general.file_type": 1,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": True,
        "clip.vision.image_size": IMAGE_PIXELS,
        "clip.vision.patch_size": PATCH_PIXELS,
        "clip.vision.embedding_length": INNER,
        "clip.vision.feed_forward_length": INNER,
        "clip.vision.projection_dim": WIDTH,
        "clip.vision.block_count": 1,
        "clip.vision.attention.head_count": 1,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def _tensors() -> dict[str, Tensor]:
    shape = (PATCH_PIXELS, PATCH_PIXELS, 3, INNER)
    size_bytes = 2 * PATCH_PIXELS * PATCH_PIXELS * 3 * INNER
    block = {
        f"v.blk.0.{name}.weight": _zeros(INNER, INNER)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_down")
    }
    biases = {
        name.replace("weight", "bias"): vector([0.0] * INNER)
        for name in (*block, "v.blk.0.ln1.weight", "v.blk.0.ln2.weight")
    }
    norms = {f"v.blk.0.{name}.weight": vector([1.0] * INNER) for name in ("ln1", "ln2")}
    return {
        "v.patch_embd.weight": Tensor(shape, bytes(size_bytes), is_half=True),
        "v.position_embd.weight": _zeros(INNER, PATCHES),
        **block,
        **norms,
        **biases,
        "mm.0.weight": _zeros(INNER, WIDTH),
        "mm.0.bias": vector([0.0] * WIDTH),
        "mm.2.weight": _zeros(WIDTH, WIDTH),
        "mm.2.bias": vector([0.0] * WIDTH),
    }


def _zeros(columns: int, rows: int) -> Tensor:
    return matrix([[0.0] * columns] * rows)

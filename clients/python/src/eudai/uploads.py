"""Files for UploadBlob: their digest, and the requests that upload them."""

import hashlib
import os
from collections.abc import Iterator

from eudai.v1.model_service_pb2 import UploadBlobRequest

PIECE_BYTES = 1 << 20
FilePath = str | os.PathLike[str]


def digest_of(path: FilePath) -> str:
    """The digest of a file, "sha256:" and 64 hexadecimal digits."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path of either kind
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def upload_requests(path: FilePath, digest: str) -> Iterator[UploadBlobRequest]:
    """The requests that upload a file, piece by piece."""
    yield UploadBlobRequest(digest=digest)
    with open(path, "rb") as file:  # noqa: PTH123 - a path of either kind
        while piece := file.read(PIECE_BYTES):
            yield UploadBlobRequest(data=piece)

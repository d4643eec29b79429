"""Creates the messages of a conversation, and media from files."""

import os
from collections.abc import Sequence
from pathlib import Path

from eudai.v1 import content_pb2 as pb

MEDIA_BYTES_MAX = 8 << 20  # a request may not be larger
MediaSource = str | os.PathLike[str] | bytes | pb.Media

# The first bytes of the file types that the contract allows.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
)
_RIFF_TYPES = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def system_message(text: str) -> pb.Message:
    """Instructions for the model.

    >>> eudai.system_message("Answer in French.").parts[0].text
    'Answer in French.'
    """
    return pb.Message(role=pb.ROLE_SYSTEM, parts=[pb.Part(text=text)])


def user_message(text: str, media: Sequence[MediaSource] = ()) -> pb.Message:
    """A message of the user. `media` are images or audio files, as paths or as bytes.

    >>> len(eudai.user_message("What is this?", media=[PNG]).parts)
    2
    """
    parts = [pb.Part(text=text)] if text else []
    parts += [pb.Part(media=media_from(source)) for source in media]
    return pb.Message(role=pb.ROLE_USER, parts=parts)


def assistant_message(text: str) -> pb.Message:
    """A message of the model, for example of an earlier conversation.

    >>> eudai.assistant_message("Hello.").parts[0].text
    'Hello.'
    """
    return pb.Message(role=pb.ROLE_ASSISTANT, parts=[pb.Part(text=text)])


def tool_message(call_id: str, text: str, name: str = "") -> pb.Message:
    """The result of a tool call. `call_id` is `ToolCall.id`.

    >>> eudai.tool_message("call-1", "12:00").tool_call_id
    'call-1'
    """
    parts = [pb.Part(text=text)]
    return pb.Message(role=pb.ROLE_TOOL, parts=parts, tool_call_id=call_id, tool_name=name)


def media_from(source: MediaSource) -> pb.Media:
    """An image or audio file. Raises ValueError if it is not of a supported type.

    >>> eudai.media_from(PNG).mime_type
    'image/png'
    """
    if isinstance(source, pb.Media):
        return source
    name = "media" if isinstance(source, bytes) else os.fspath(source)
    data = source if isinstance(source, bytes) else _read(Path(source))
    for signature, mime_type in _SIGNATURES:
        if data.startswith(signature):
            return pb.Media(mime_type=mime_type, data=data)
    if data.startswith(b"RIFF") and data[8:12] in _RIFF_TYPES:
        return pb.Media(mime_type=_RIFF_TYPES[data[8:12]], data=data)
    raise ValueError(f"{name}: not a PNG, JPEG, WebP, WAV or MP3 file")


def _read(path: Path) -> bytes:
    if path.stat().st_size > MEDIA_BYTES_MAX:
        raise ValueError(f"{path}: larger than {MEDIA_BYTES_MAX >> 20} MiB")
    return path.read_bytes()

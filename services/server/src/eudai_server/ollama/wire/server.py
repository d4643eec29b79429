"""Decodes the bodies of /api/version and /api/status. No I/O."""

import msgspec


class _WireVersion(msgspec.Struct):
    version: str = ""


class _WireCloud(msgspec.Struct):
    disabled: bool | None = None


class _WireStatus(msgspec.Struct):
    cloud: _WireCloud = msgspec.field(default_factory=_WireCloud)


_version_decoder = msgspec.json.Decoder(_WireVersion)
_status_decoder = msgspec.json.Decoder(_WireStatus)


def version_from(body: bytes) -> str:
    """The version in /api/version; empty if the body is malformed."""
    try:
        return _version_decoder.decode(body).version
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def cloud_enabled_from(body: bytes) -> bool | None:
    """Whether /api/status says that the cloud is enabled; None if it does not say."""
    try:
        disabled = _status_decoder.decode(body).cloud.disabled
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return None if disabled is None else not disabled

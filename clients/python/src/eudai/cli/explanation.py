"""What a person reads about an error: what is wrong, and what to do next."""

import click

import eudai
from eudai.errors import EudaiError

_HINTS = {
    "ADMIN_DISABLED": "the operator must set EUDAI_ADMIN=true",
    "UNAUTHENTICATED": "set --token-file or EUDAI_TOKEN_FILE",
}


def explanation(error: Exception) -> str:
    """The message of an error with a hint."""
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "eudai"
        return f"{error.format_message()} (see `{command} --help`)"
    if isinstance(error, click.ClickException):
        return error.format_message()
    hint = _hint(error) if isinstance(error, EudaiError) else ""
    return f"{error}; {hint}" if hint else str(error)


def _hint(error: EudaiError) -> str:
    if error.retry_after_s is not None:
        return f"try again in {error.retry_after_s:.1f} s"
    if type(error) is eudai.UnavailableError:  # not one of its reasons, so gRPC itself failed
        if "refused" in error.message:
            return "is the server running? set --address or EUDAI_ADDRESS"
        return "check --address (EUDAI_ADDRESS) and --ca-file (EUDAI_CA_FILE)"
    return _HINTS.get(error.reason, "")

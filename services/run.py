"""Starts a server, streams one real generation to the terminal, then serves until Ctrl-C.

Run by `make run`, with an Ollama that answers at OLLAMA_BASE_URL. If standard output is not a
terminal, the server is stopped after the generation.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

BIN = Path(sys.executable).parent
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0
POLL_S = 0.1
MAX_OUTPUT_TOKENS = 48

HOW_TO_CALL = """
Serving at {address}. Call it from another terminal:
  {bin}/eudai generate "Once upon a time"
  grpcurl -plaintext -d '{{"model":"{model}","prompt":"hi"}}' \\
    {address} eudai.v1.GenerationService/Generate
Press Ctrl-C to stop.
"""


def main(prompt: str) -> int:
    """Run the demo; returns the exit code: 0 if the generation was complete."""
    env = {"EUDAI_LAME_DUCK": "0", **os.environ}
    model = env.get("EUDAI_MODEL") or "gemma3:270m"
    address = env.get("EUDAI_LISTEN") or "127.0.0.1:50051"
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [BIN / "eudai-server"], env=env, stdout=log, stderr=log, start_new_session=True
        )
        try:
            if not wait_until_ready(server, env, log):
                return 1
            say(f"asking {model} at {address} to continue: {prompt}")
            code = generate(model, prompt, env)
            if code == 0 and sys.stdout.isatty():
                how = HOW_TO_CALL.format(address=address, bin=os.path.relpath(BIN), model=model)
                print(how, flush=True)
                server.wait()
        except KeyboardInterrupt:
            code = 0
        finally:
            stop(server)
    return code


def generate(model: str, prompt: str, env: dict[str, str]) -> int:
    """Stream a generation to standard output; returns the client's exit code."""
    options = ["--model", model, "--max-output-tokens", str(MAX_OUTPUT_TOKENS)]
    return subprocess.call([str(BIN / "eudai"), "generate", *options, prompt], env=env)


def wait_until_ready(
    server: "subprocess.Popen[bytes]", env: dict[str, str], log: IO[bytes]
) -> bool:
    """Poll the server's health; print its log if it does not become ready."""
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline_s and server.poll() is None:
        check = [str(BIN / "eudai"), "healthcheck"]
        if not subprocess.run(check, env=env, capture_output=True, check=False).returncode:
            return True
        time.sleep(POLL_S)
    log.seek(0)
    say(f"the server did not become ready:\n{log.read().decode(errors='replace')}")
    return False


def say(text: str) -> None:
    """Print a message to standard error."""
    print(f"eudai: {text}", file=sys.stderr, flush=True)


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Stop the server; a second Ctrl-C ends its calls at once."""
    signal.signal(signal.SIGINT, lambda *_: server.terminate())
    server.terminate()
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main(sys.argv[1]))

"""A llama.cpp server for Ollama: takes Ollama's runner flags and serves one model until SIGTERM.

Installed as `lib/ollama/llama-server`, where Ollama expects a build of llama.cpp. Here the server
comes from the wheel `xllamacpp`, so nothing has to be compiled. The flags are those of Ollama 0.30
to 0.34, `llm/llama_server.go`.
"""

import argparse
import signal
import sys
import threading


def parser() -> argparse.ArgumentParser:
    """Every flag that Ollama may pass. argparse rejects any other with exit code 2."""
    flags = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    flags.add_argument("--model", default="")
    flags.add_argument("--host", default="127.0.0.1")
    flags.add_argument("--port", type=int, default=0)
    flags.add_argument("-c", dest="n_ctx", type=int, default=0)
    flags.add_argument("-np", dest="n_parallel", type=int, default=1)
    flags.add_argument("-b", dest="n_batch", type=int)
    flags.add_argument("-ub", dest="n_ubatch", type=int)
    flags.add_argument("-t", dest="n_threads", type=int)
    flags.add_argument("-ngl", dest="n_gpu_layers", type=int)
    flags.add_argument("--log-verbosity", type=int, default=3)
    flags.add_argument("--chat-template", default="")
    flags.add_argument("--mmproj", default="")  # the projector of a model that takes images
    flags.add_argument("--keep", type=int, default=0)
    for switch in (
        "--embedding",
        "--no-jinja",
        "--context-shift",
        "--list-devices",
        "--no-mmproj-offload",
    ):
        flags.add_argument(switch, action="store_true")
    # Without effect on a CPU, or the default of this server.
    for switch in (
        "--no-webui",
        "--offline",
        "--verbose",
        "--no-log-prefix",
        "--no-log-timestamps",
        "--no-mmap",
    ):
        flags.add_argument(switch, action="store_true")
    for option in ("--flash-attn", "--load-mode", "--split-mode", "--main-gpu"):
        flags.add_argument(option)
    return flags


def serve(flags: argparse.Namespace) -> None:
    """Start the server and wait for a signal."""
    import xllamacpp  # noqa: PLC0415 - the device listing must not pay for loading it

    params = xllamacpp.CommonParams()
    params.model.path = flags.model
    params.hostnames = [flags.host]
    params.port = flags.port
    params.n_ctx = flags.n_ctx
    params.n_parallel = flags.n_parallel
    params.n_keep = flags.keep
    params.ctx_shift = flags.context_shift
    params.embedding = flags.embedding
    params.use_jinja = not flags.no_jinja
    params.chat_template = flags.chat_template
    params.verbosity = flags.log_verbosity
    if flags.mmproj:
        params.mmproj.path = flags.mmproj
        params.mmproj_use_gpu = not flags.no_mmproj_offload
    for name in ("n_batch", "n_ubatch", "n_gpu_layers"):
        if getattr(flags, name) is not None:
            setattr(params, name, getattr(flags, name))
    if flags.n_threads:
        params.cpuparams.n_threads = flags.n_threads
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", file=sys.stderr, flush=True)
    stopped.wait()


def main() -> None:
    """List the devices, wait to be killed in discovery, or serve.

    The list is empty, because this runner uses the CPU.
    """
    flags = parser().parse_args()
    if flags.list_devices:
        print("Available devices:")
    elif not flags.model:
        print("system_info: CPU", file=sys.stderr, flush=True)
        signal.pause()
    else:
        serve(flags)


if __name__ == "__main__":
    main()

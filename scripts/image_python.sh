#!/bin/bash
# Runs the tests of codecs and behaviours on the Python of the server's image. `make test` uses the
# machine's own Python, which may be the oldest that is supported.
set -eu -o pipefail
cd "$(dirname "$0")/.."
version=$(sed -nE 's/^ARG PYTHON_IMAGE=python:([0-9.]+)-slim/\1/p' services/server/Dockerfile)
python=$(command -v "python$version" || true)
if command -v pyenv > /dev/null; then
    prefix=$(pyenv prefix "$(pyenv latest "$version" 2> /dev/null)" 2> /dev/null) || prefix=
    python=$prefix/bin/python
fi
if ! "${python:-false}" --version > /dev/null 2>&1; then
    echo "eudai: skipped: the image runs Python $version, which is not installed here" >&2
    exit 0
fi
make VENV=".venv-$version" PYTHON="$python" setup-develop
".venv-$version/bin/pytest" tests/codec tests/behaviour -q -m "not real" "$@"

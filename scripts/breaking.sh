#!/bin/bash
# Compares the contract with its first version and with the previous commit: no change may break
# callers.
set -eu -o pipefail
cd "$(dirname "$0")/.."
commits=$(git rev-list --reverse HEAD -- proto)
first=${commits%%$'\n'*}
for commit in "$first" "$(git rev-parse --verify --quiet HEAD~1 || echo "$first")"; do
	if git cat-file -e "$commit:proto" 2> /dev/null; then
		.venv/bin/buf breaking --against ".git#ref=$commit"
		echo "eudai: buf breaking: no change breaks callers of $(git log -1 --format='%h (%s)' "$commit")"
	fi
done

#!/bin/bash
# The contract against the first one that landed and against the one before this commit: nothing may break a caller.
set -eu -o pipefail
cd "$(dirname "$0")/.."
commits=$(git rev-list --reverse HEAD -- proto)
first=${commits%%$'\n'*}
for commit in "$first" "$(git rev-parse --verify --quiet HEAD~1 || echo "$first")"; do
	if git cat-file -e "$commit:proto" 2> /dev/null; then
		.venv/bin/buf breaking --against ".git#ref=$commit"
		echo "eudai: buf breaking: nothing breaks callers of $(git log -1 --format='%h (%s)' "$commit")"
	fi
done

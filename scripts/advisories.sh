#!/bin/bash
# Asks pip-audit, of the environment $1, whether the server's packages have known flaws. Says so if
# the advisory service does not answer; scripts/audit_locks.py is the fallback.
set -eu -o pipefail
cd "$(dirname "$0")/.."
result=$1/advisories.json
rm -f "$result"
code=0
timeout 60 "$1/bin/pip-audit" --disable-pip --require-hashes --requirement requirements/server.txt \
	--timeout 5 --progress-spinner off --format json --output "$result" 2> "$1/advisories.log" ||
	code=$?
if [ -s "$result" ] && [ "$code" -ne 0 ]; then
	cat "$1/advisories.log" "$result" >&2
	exit "$code"
fi
# pip-audit skips what the service does not know, and calls that no known vulnerabilities.
if [ ! -s "$result" ] || grep -q '"skip_reason"' "$result"; then
	echo 'eudai: NOT AUDITED with pip-audit: the advisory service did not answer for each package' >&2
	grep -o '"skip_reason": "[^"]*"' "$result" "$1/advisories.log" | head -n 3 >&2 || true
	tail -n 1 "$1/advisories.log" >&2
	exit 0
fi
echo 'eudai: pip-audit knows no flaw of a package of server.txt'

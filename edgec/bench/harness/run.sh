#!/bin/sh
# Checks and times this bundle. Arguments go to bench.py (--help lists them); --digests checks the files and stops,
# for which no Python is needed. $PYTHON chooses the interpreter.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

if command -v sha256sum >/dev/null 2>&1; then
    if ! told=$(cd "$here/.." && sha256sum -c SHA256SUMS 2>&1); then
        printf '%s\n' "$told" | grep -v ': OK$' >&2 || true
        echo "run.sh: the bundle is not as it was built; copy it again" >&2
        exit 2
    fi
    if [ "${1:-}" = "--digests" ]; then
        echo "all files match SHA256SUMS"
        exit 0
    fi
elif [ "${1:-}" = "--digests" ]; then
    echo "run.sh: sha256sum is not installed; bench.py --check-only checks the files too" >&2
    exit 4
fi

python=${PYTHON:-}
for candidate in python3 python; do
    if [ -z "$python" ] && command -v "$candidate" >/dev/null 2>&1; then
        python=$candidate
    fi
done
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    echo "run.sh: Python 3.9 or later is needed; set PYTHON to its path" >&2
    exit 4
fi
if ! "$python" -c 'import numpy' 2>/dev/null; then
    echo "run.sh: NumPy is missing; install what is needed with: $python -m pip install -r $here/requirements.txt" >&2
    exit 4
fi
exec "$python" "$here/bench.py" "$@"

#!/bin/sh
# Checks and times this bundle. Arguments go to bench.py (--help lists them); --digests checks the files and stops,
# for which no Python is needed. $PYTHON chooses the interpreter.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
signed=bundle.intoto.jsonl

# Each tool prints 64 hexadecimal digits and a space first; files are read as its input, whatever their names.
can_digest=yes
if command -v sha256sum >/dev/null 2>&1; then
    sha256() { sha256sum <"$1"; }
elif command -v shasum >/dev/null 2>&1; then
    sha256() { shasum -a 256 <"$1"; }
elif command -v openssl >/dev/null 2>&1; then
    sha256() { openssl dgst -sha256 -r <"$1"; }
elif command -v busybox >/dev/null 2>&1 && busybox sha256sum </dev/null >/dev/null 2>&1; then
    sha256() { busybox sha256sum <"$1"; }
else
    can_digest=no
fi

if command -v base64 >/dev/null 2>&1; then
    decode() { base64 -d; }
elif command -v openssl >/dev/null 2>&1; then
    decode() { openssl base64 -d -A; }
else
    decode() { busybox base64 -d; }
fi

# Lines of digest, two spaces, name: of all files that were signed, or else of those in SHA256SUMS.
listed() {
    if [ -f "$signed" ]; then
        sed -n '1s/^{"payload":"\([^"]*\)".*/\1/p' "$signed" | decode 2>/dev/null | sed 's/.*"subject":\[//' |
            tr '{' '\n' | sed -n 's/^"sha256":"\([0-9a-f]*\)"},"name":"\([^"\\]*\)"}.*/\1  \2/p'
    else
        cat SHA256SUMS
    fi
}

# One line for each file that is missing or changed.
differing() {
    printf '%s\n' "$list" | while IFS= read -r line; do
        name=${line#*  }
        case "/$name/" in
            */../* | //*) echo "$name: leads out of the bundle" && continue ;;
        esac
        if [ -L "$name" ]; then
            echo "$name: is a symbolic link"
        elif [ ! -f "$name" ]; then
            echo "$name: missing"
        else
            found=$(sha256 "$name") || found=
            [ "${found%% *}" = "${line%%  *}" ] || echo "$name: changed"
        fi
    done
}

# One line for each file that does not belong to the bundle.
unexpected() {
    find . ! -type d | while IFS= read -r file; do
        name=${file#./}
        case "$name" in
            "$signed" | bench/.result*.partial | bench/result*.json) [ -L "$name" ] || continue ;;
            manifest.json | measurements.json | report.html | sbom.cdx.json | SHA256SUMS)
                [ -f "$signed" ] || [ -L "$name" ] || continue
                ;;
        esac
        printf '%s\n' "$list" | cut -c 67- | grep -qxF -e "$name" || echo "$name: unexpected"
    done
}

# Prints what is wrong and returns 2; with --digests, files that do not belong to the bundle are wrong too.
check() (
    cd "$here/.." || exit 2
    list=$(listed 2>/dev/null) || list=
    from=SHA256SUMS
    [ ! -f "$signed" ] || from=$signed
    if [ -z "$list" ]; then
        wrong="$from: missing or damaged"
    else
        wrong=$(differing)
        [ "$1" != --digests ] || wrong="$wrong
$(unexpected)"
    fi
    wrong=$(printf '%s\n' "$wrong" | sed '/^$/d')
    if [ -n "$wrong" ]; then
        printf '%s\n' "$wrong" >&2
        echo "run.sh: the bundle is not as it was built; copy it again" >&2
        exit 2
    fi
    [ "$1" = --digests ] || exit 0
    echo "all $(printf '%s\n' "$list" | grep -c .) files match $from"
    [ ! -f "$signed" ] || echo "not checked here: the signature (edgec verify --key)"
)

if [ "$can_digest" = yes ]; then
    check "${1:-}" || exit 2
fi
if [ "${1:-}" = "--digests" ]; then
    [ "$can_digest" = no ] || exit 0
    echo "run.sh: sha256sum, shasum, openssl or busybox is needed; bench.py --check-only checks the files too" >&2
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

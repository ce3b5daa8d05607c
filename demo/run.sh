#!/bin/sh
# The demo: a school SaaS on a scratch PostgreSQL, an accident in one of 50 tenants, and the way
# back. Needs the release build of pgstrata, PostgreSQL 14 or newer, python3 and psycopg2; touches
# nothing outside a temporary folder, which is gone at the end, and opens no TCP port (with STORE=s3
# one on loopback).
#
#   PGSTRATA=path/to/pgstrata   the binary, when it is not where `make` puts it
#   PG_BINDIR=path/to/bin       the PostgreSQL to use, when not the newest one installed
#   STORE=s3                    archive into a MinIO instead of a folder (built once, in minutes)
#   NO_COLOR=1                  plain text on a terminal too
set -eu

fail() {
    printf 'demo: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

case "${STORE:-file}" in
    file) minio= ;;
    s3) minio="$root/scripts/minio.py run" ;; # a MinIO of the demo's own, on loopback
    *) fail "STORE=$STORE: unknown store" "file or s3" ;;
esac

PGSTRATA=${PGSTRATA:-$root/build/release/pgstrata}
[ -x "$PGSTRATA" ] ||
    fail "no pgstrata binary" "\`make demo\` builds it first; or set PGSTRATA"

if [ -z "${PG_BINDIR:-}" ]; then
    PG_BINDIR=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -n | tail -n 1)
    [ -n "$PG_BINDIR" ] || PG_BINDIR=$(pg_config --bindir 2>/dev/null || true)
fi
[ -x "${PG_BINDIR:-}/initdb" ] ||
    fail "no PostgreSQL server found" "scripts/install-deps.sh demo installs it; or set PG_BINDIR"

# Debian's own Python first: psycopg2 is installed for it, not for others earlier on PATH.
for python in /usr/bin/python3 python3; do
    if command -v "$python" >/dev/null 2>&1 && "$python" -c 'import psycopg2' 2>/dev/null; then
        export PGSTRATA PG_BINDIR PYTHONDONTWRITEBYTECODE=1
        # shellcheck disable=SC2086 # nothing, or two words
        exec ${minio:+"$python"} $minio "$python" "$here/story.py"
    fi
done
fail "no python3 with psycopg2" "scripts/install-deps.sh demo installs it (python3-psycopg2)"

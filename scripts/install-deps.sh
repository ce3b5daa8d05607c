#!/bin/sh
# Installs what building and testing pgstrata needs, on Debian and Ubuntu, and says what it does.
# Nothing is touched when nothing is missing. sudo is used only when you are not root and something
# has to be installed; on other systems the packages are named, and you install their equivalents.
#
#   scripts/install-deps.sh build    to compile (the default)
#   scripts/install-deps.sh test     and to run the tests, with a PostgreSQL server
#   scripts/install-deps.sh demo     as test: the demo needs a server too
#   scripts/install-deps.sh bench    as test, and what pgstrata is measured against
#   scripts/install-deps.sh ci       as test, and the linters and the fuzzers' compiler
#
# A Debian package of a PostgreSQL server makes and starts a cluster when it is installed. That is
# switched off for the time of the installation: the tests make their own, in temporary folders.
set -eu

level=${1:-build}
build='gcc libc6-dev make cmake ninja-build pkg-config libpq-dev libzstd-dev libssl-dev
    libcurl4-openssl-dev libexpat1-dev libjansson-dev uthash-dev libsystemd-dev libcmocka-dev'
# util-linux: setpriv and setarch; procps: ps. Both are everywhere but in the smallest containers.
# python3-venv: for PyPI's Go, where there is none that builds MinIO (scripts/minio.py).
server='postgresql postgresql-contrib util-linux procps python3 python3-venv python3-pytest
    python3-psycopg2'
case $level in
    build) wanted=$build ;;
    test | demo) wanted="$build $server" ;;
    bench) wanted="$build $server pgbackrest" ;;
    ci) wanted="$build $server git clang clang-tidy clang-format shellcheck" ;;
    *)
        echo "usage: scripts/install-deps.sh build|test|demo|bench|ci" >&2
        exit 2
        ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "dependencies: this is no Debian or Ubuntu. Please install the equivalents of:"
    # shellcheck disable=SC2086 # a list of words
    printf '  %s\n' $wanted
    [ "$level" != ci ] || echo "  clang's runtime libraries (compiler-rt), for the sanitizers and libFuzzer"
    exit 1
fi

# Where clang's runtime is a package of its own, it carries clang's version in its name.
clang_runtime() {
    apt-cache depends clang 2>/dev/null |
        sed -n 's/^ *Depends: clang-\([0-9]*\)$/libclang-rt-\1-dev/p' | head -n 1
}
[ "$level" != ci ] || wanted="$wanted $(clang_runtime)"

# Prints the names among "$@" that are not installed. A virtual or absent name counts as missing.
missing_of() {
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
        sed -n 's/ installed$//p')
    for package in "$@"; do
        printf '%s\n' "$installed" | grep -qxF "$package" || printf '%s\n' "$package"
    done
}

# shellcheck disable=SC2086
missing=$(missing_of $wanted)
if [ -z "$missing" ]; then
    echo "dependencies: all present ($level)"
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "dependencies: missing, and neither root nor sudo is here to install them:"
        # shellcheck disable=SC2086
        printf '  %s\n' $missing
        exit 1
    fi
    as_root='sudo'
fi

apt() {
    # shellcheck disable=SC2086 # empty when we are root
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 || {
        echo "dependencies: apt-get $* failed:" >&2
        cat "$log" >&2
        exit 1
    }
}

log=$(mktemp)
createcluster=/etc/postgresql-common/createcluster.conf
saved=
finish() {
    if [ -n "$saved" ]; then
        $as_root cp "$saved" "$createcluster"
        rm -f "$saved"
    fi
    rm -f "$log"
}
trap finish EXIT

echo "dependencies: installing with apt-get${as_root:+ (sudo)}: $(echo "$missing" | tr '\n' ' ')"
apt update
[ "$level" != ci ] || {
    # apt knew nothing of clang before the update on a machine without package lists.
    # shellcheck disable=SC2046,SC2086
    missing=$(missing_of $wanted $(clang_runtime) | sort -u)
}

if printf '%s\n' "$missing" | grep -qx postgresql; then
    apt install --no-install-recommends postgresql-common
    saved=$(mktemp)
    cat "$createcluster" >"$saved"
    # Only for now: the file is put back at the end, so that later servers behave as you know them.
    if ! grep -q '^[[:space:]]*create_main_cluster' "$createcluster"; then
        echo "dependencies: the server package shall make and start no cluster ($createcluster)"
        echo 'create_main_cluster = false' | $as_root tee -a "$createcluster" >/dev/null
    fi
fi
# shellcheck disable=SC2086
apt install --no-install-recommends $missing
echo "dependencies: installed ($level)"

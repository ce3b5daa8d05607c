#!/bin/bash
# Lint: formatting, clang-tidy, shellcheck, style. Exit 1 on any finding.
#
#   scripts/lint.sh          everything
#   scripts/lint.sh --quick  without clang-tidy
#   scripts/lint.sh --fix    rewrite the formatting, nothing else
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { # the version that .clang-format was written for, when there are several
    command -v "$1-14" || command -v "$1"
}

files() { # those that Git knows or would add, and that are still there
    git -c 'safe.directory=*' ls-files -co --exclude-standard "$@" | while read -r file; do
        [ ! -f "$file" ] || printf '%s\n' "$file"
    done
}
mapfile -t c_files < <(files '*.c' '*.h')
mapfile -t scripts < <(files '*.sh' '.ci/run')
failed=()
step() { # name, command...
    local name=$1 start=$SECONDS
    shift
    if "$@"; then
        printf 'lint: %-12s ok (%ds)\n' "$name" $((SECONDS - start))
    else
        printf 'lint: %-12s FAILED\n' "$name"
        failed+=("$name")
    fi
}

check_format() {
    "$(tool clang-format)" --dry-run -Werror --ferror-limit=3 "${c_files[@]}"
}

# A header brings what it needs: including it alone is enough.
check_headers() {
    local header rc=0
    for header in "${c_files[@]}"; do
        [[ $header == *.h && $header != */banned.h ]] || continue
        # shellcheck disable=SC2046 # a list of flags
        printf '#include "%s"\n' "$header" | gcc -x c -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror \
            -fsyntax-only -I. -Isrc -Iinclude -Itests/unit \
            $(pkg-config --cflags libpq libzstd libcrypto libcurl expat jansson cmocka) - || rc=1
    done
    return $rc
}

check_shell() {
    shellcheck -x --severity=warning "${scripts[@]}"
}

# Over the compile database of the whole tree, tests included. The build itself is not needed, apart
# from the one generated source.
check_tidy() {
    local build=build/lint log
    cmake -S . -B "$build" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Debug \
        -DCMAKE_C_COMPILER="$(tool clang)"
    cmake --build "$build" --target sql_source >/dev/null
    log=$build/clang-tidy.log
    if "$(tool run-clang-tidy)" -quiet -p "$build" -j "$(nproc)" \
        "^$PWD/(src|archiver|restore|tests|contrib)/" >"$log" 2>&1; then
        return 0
    fi
    # Only the findings: the log names every command too.
    sed -e 's/\x1b\[[0-9;]*m//g' -e "s|$PWD/||" "$log" |
        grep -vE '^(/usr/bin/)?clang-tidy|^[0-9]+ warnings?|^Suppressed|^Use -'
    return 1
}

case ${1:-} in
    --fix)
        "$(tool clang-format)" -i "${c_files[@]}"
        exit 0
        ;;
    --quick | '') ;;
    *)
        sed -n '2,6s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac

step style /usr/bin/python3 tests/style/check.py
step format check_format
step headers check_headers
if command -v shellcheck >/dev/null; then
    step shellcheck check_shell
fi
[ "${1:-}" = --quick ] || step clang-tidy check_tidy

if [ ${#failed[@]} -gt 0 ]; then
    echo "lint: failed: ${failed[*]}"
    exit 1
fi
echo "lint: no findings in ${#c_files[@]} C files and ${#scripts[@]} scripts"

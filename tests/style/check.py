#!/usr/bin/env python3
"""Style as a test: what no compiler checks, and what would rot if nothing did.

    tests/style/check.py            check the tree; exit 1 and one line per finding
    tests/style/check.py --lower    also write today's longest functions into ratchet.json

Each rule is a function of (path, text) that yields (line number, words). test_check.py shows every
one of them failing.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATCHET = ROOT / "tests/style/ratchet.json"

# --- Include arrows -------------------------------------------------------------------------------
# Which folders a layer may include besides its own. An arrow never points up, and the two journeys,
# archiver and restore, do not know each other: they meet in strata.
PUBLIC = "pgstrata"
ARROWS = {
    "include": {PUBLIC},
    "src/core": {PUBLIC},
    "src/store": {PUBLIC, "core"},
    "src/pg": {PUBLIC, "core", "sql"},
    "src/strata": {PUBLIC, "core", "store", "pg"},
    "archiver": {PUBLIC, "core", "store", "pg", "strata"},
    "restore": {PUBLIC, "core", "store", "pg", "strata"},
    "src/control": {PUBLIC, "core", "store", "pg", "strata", "archiver", "restore"},
    "src/cli": {PUBLIC, "core", "store", "pg", "strata", "archiver", "restore", "control"},
    "sql": set(),
    "contrib": {PUBLIC, "store"},
}
# A library's types stop in the folders that wrap it.
THIRD_PARTY = [
    (r"libpq|postgres|pg_config", {"src/pg"}),
    (r"zstd|zdict", {"src/strata"}),
    (r"openssl/", {"src/store", "src/strata", "src/pg"}),
    (r"jansson", {"src/store", "src/pg", "src/strata", "archiver", "restore", "src/cli", "src/control"}),
    (r"systemd/", {"archiver", "src/cli", "src/control"}),
    (r"ut(hash|list|array|string)\.h", {"src/store", "src/pg", "src/strata", "archiver", "restore",
                                        "src/control", "src/cli"}),
    (r"curl/|expat\.h", {"src/store"}),
    (r"lmdb\.h", {"src/strata", "archiver"}),
    (r"microhttpd\.h", {"src/control"}),
]
LIBC = re.compile(
    r"(sys|linux|net|netinet|arpa)/\w+\.h|(assert|complex|ctype|dirent|endian|errno|fcntl|fenv|float"
    r"|fnmatch|getopt|glob|grp|inttypes|iso646|langinfo|libgen|limits|locale|malloc|math|netdb|poll"
    r"|pthread|pwd|regex|sched|search|semaphore|setjmp|signal|spawn|stdalign|stdarg|stdatomic|stdbool"
    r"|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|syslog|termios|threads|time|uchar|unistd"
    r"|utime|wchar|wctype)\.h"
)
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')


def layer_of(path):
    """The layer a file belongs to, or None: tests see everything."""
    return next((layer for layer in ARROWS if path.startswith(layer + "/")), None)


def check_quoted(layer, name):
    folder, slash, _ = name.partition("/")
    if ".." in name:
        return f'"{name}" climbs; name the folder instead, as "core/err.h"'
    if not slash:
        return f'"{name}" has no folder; write it as "core/err.h"'
    if folder == layer.rpartition("/")[2] or folder in ARROWS[layer]:
        return None
    return f'"{name}": {layer} must not include {folder}/'


def check_angled(layer, name):
    if name.startswith(PUBLIC + "/"):
        return None if PUBLIC in ARROWS[layer] else f"<{name}>: {layer} includes nothing of ours"
    for pattern, allowed in THIRD_PARTY:
        if re.match(pattern, name):
            return None if layer in allowed else f"<{name}> belongs into {', '.join(sorted(allowed))}"
    if LIBC.fullmatch(name):
        return None
    return f"<{name}> is neither libc nor a library that tests/style/check.py knows"


def rule_include_arrows(path, text):
    layer = layer_of(path)
    if layer is None or not path.endswith((".c", ".h")):
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            check = check_quoted if match[1] == '"' else check_angled
            words = check(layer, match[2])
            if words:
                yield number, words


# --- Calls that are not made ----------------------------------------------------------------------
BANNED = {
    "strcpy": "no bound; use core/buf.h or memcpy with a size that was checked",
    "strcat": "no bound; use core/buf.h",
    "strncpy": "may leave no terminator; use core/buf.h or snprintf",
    "strncat": "its bound is not the target's size; use core/buf.h",
    "sprintf": "no bound; use snprintf or core/buf.h",
    "vsprintf": "no bound; use vsnprintf or core/buf.h",
    "gets": "no bound",
    "scanf": "no bound, no overflow check; use core/cursor.h or strtoull with errno",
    "sscanf": "no overflow check; use core/cursor.h or strtoull with errno",
    "strtok": "hidden state shared by threads; use core/slice.h",
    "atoi": "cannot fail; use strtoull with errno",
    "atol": "cannot fail; use strtoull with errno",
    "atoll": "cannot fail; use strtoull with errno",
    "atof": "cannot fail; use strtod with errno",
    "alloca": "stack use that input decides",
    "system": "a shell between us and the program, quoting and all",
    "popen": "a shell between us and the program, quoting and all",
    "strerror": "shared buffer; err_set_errno, or strerror_r",
    "localtime": "shared buffer; use core/timefmt.h",
    "gmtime": "shared buffer; use core/timefmt.h",
    "ctime": "shared buffer; use core/timefmt.h",
    "asctime": "shared buffer; use core/timefmt.h",
    "rand": "predictable; use getrandom",
    "srand": "predictable; use getrandom",
    "tmpnam": "a race; use mkstemp or O_TMPFILE",
    "mktemp": "a race; use mkstemp or O_TMPFILE",
}
# (path, call): why it may. Empty, and best kept so.
BANNED_EXCEPTIONS = {}
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code_only(text):
    """C without comments and with empty literals; lines keep their numbers."""
    return TOKEN.sub(lambda m: m[0][0] + "\n" * m[0].count("\n") + m[0][0]
                     if m[0][0] in "\"'" else " " + "\n" * m[0].count("\n"), text)


def rule_banned_calls(path, text):
    if not path.endswith((".c", ".h")) or path == "src/core/banned.h":
        return
    for number, line in enumerate(code_only(text).splitlines(), 1):
        for match in BANNED_CALL.finditer(line):
            if (path, match[1]) not in BANNED_EXCEPTIONS:
                yield number, f"{match[1]}: {BANNED[match[1]]}"


# --- Text -----------------------------------------------------------------------------------------
CODE = (".c", ".h", ".py", ".sh", ".sql", ".cmake", "CMakeLists.txt", "Makefile", ".ci/run", ".service")
TEXT = CODE + (".md", ".json", ".ini", ".yml", ".yaml", ".toml", ".conf", ".html", ".css", ".js")
COLUMNS = 100
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$})-])/(work|root|home/\w+|Users/\w+)/")


def rule_text(path, text):
    if not path.endswith(TEXT):
        return
    if "\r" in text:
        yield 1, "carriage return"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end"
    if text.endswith("\n\n"):
        yield text.count("\n"), "empty lines at the end"
    for number, line in enumerate(text.split("\n"), 1):
        if "\t" in line and path != "Makefile":
            yield number, "tab"
        if line != line.rstrip() and not path.startswith("tests/fuzz/corpus/"):
            yield number, "trailing space"
        if path.endswith(CODE) and UNFINISHED.search(line):
            yield number, "unfinished business: finish it, or open an issue"
        if path.endswith((".c", ".h")) and len(line) > COLUMNS:
            yield number, f"{len(line)} columns, not {COLUMNS}"
        if MACHINE_PATH.search(line):
            yield number, "a path of somebody's machine"


# --- Headers are manuals --------------------------------------------------------------------------
def rule_header_head(path, text):
    if not path.endswith(".h") or layer_of(path) is None:
        return
    name = path.rpartition("/")[2]
    if not text.startswith(f"/* {name}: "):
        yield 1, f"a header starts with what it is: /* {name}: ..."
    if not re.search(r"^#ifndef (\w+_H)\n#define \1$", text, re.M):
        yield 1, "no include guard"


# --- Functions ------------------------------------------------------------------------------------
def functions(text):
    """(line, name, lines) of each function. clang-format puts only a body's braces in column 0."""
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            name = next((m[1] for i in range(start - 1, max(start - 12, -1), -1)
                         if (m := re.match(r"(\w+)\(", lines[i]))), "?")
            yield start + 1, name, number - start + 1
            start = None


def ratchet_group(path):
    if not path.endswith((".c", ".h")):
        return None
    return "tests" if path.startswith(("tests/", "contrib/")) else "program"


def longest_functions(files):
    worst = {}
    for path, text in files.items():
        group = ratchet_group(path)
        for line, name, length in functions(text) if group else ():
            if length > worst.get(group, (0,))[0]:
                worst[group] = (length, path, line, name)
    return worst


def check_ratchet(files, ceilings):
    for path, text in files.items():
        group = ratchet_group(path)
        for line, name, length in functions(text) if group else ():
            if length > ceilings[group]:
                yield path, line, f"{name} has {length} lines; the ceiling is {ceilings[group]}"


# --------------------------------------------------------------------------------------------------
RULES = [rule_include_arrows, rule_banned_calls, rule_text, rule_header_head]


def names():
    """The files Git knows or would add; without Git, as in an unpacked tarball, all but build/."""
    # The checkout may belong to another user than the one who checks it, as in a container.
    git = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"],
                         cwd=ROOT, capture_output=True, text=True)
    if git.returncode == 0:
        return sorted(filter(None, git.stdout.split("\0")))
    files = (path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*") if path.is_file())
    return sorted(name for name in files if not name.startswith(("build/", ".git/")))


def tree():
    """Name -> text. Binary files, as in a fuzz corpus, are left out."""
    files = {}
    for name in names():
        path = ROOT / name
        if name == "LICENSE" or not path.is_file():
            continue
        try:
            files[name] = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue
    return files


def main():
    files = tree()
    ceilings = json.loads(RATCHET.read_text())
    findings = [(path, line, words) for path, text in files.items() for rule in RULES
                for line, words in rule(path, text)]
    findings += check_ratchet(files, ceilings)
    for path, line, words in findings:
        print(f"{path}:{line}: {words}")
    lower = {group: length for group, (length, *_) in longest_functions(files).items()
             if length < ceilings[group]}
    if lower and "--lower" in sys.argv[1:]:
        RATCHET.write_text(json.dumps(ceilings | lower, indent=2) + "\n")
        print(f"style: ratchet lowered to {lower}")
    if findings:
        print(f"style: {len(findings)} findings")
        return 1
    print(f"style: {len(files)} files, no findings")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every rule of check.py, seen to fail, and seen to leave good code alone."""

import check
import pytest


def found(rule, path, text):
    return [line for line, _ in rule(path, text)]


@pytest.mark.parametrize("path, include", [
    ("include/pgstrata/types.h", '"core/err.h"'),
    ("src/core/err.c", '"store/store.h"'),
    ("src/core/err.c", "<uthash.h>"),
    ("src/store/file.c", '"pg/conn.h"'),
    ("src/pg/conn.c", '"store/store.h"'),
    ("src/strata/segment.c", '"archiver/archiver.h"'),
    ("src/strata/segment.c", "<libpq-fe.h>"),
    ("archiver/flush.c", '"restore/restore.h"'),
    ("archiver/flush.c", "<zstd.h>"),
    ("restore/plan.c", '"archiver/archiver.h"'),
    ("restore/plan.c", '"control/jobs.h"'),
    ("src/control/jobs.c", '"cli/options.h"'),
    ("src/store/file.c", "<lmdb.h>"),
    ("src/store/file.c", "<systemd/sd-daemon.h>"),
    ("restore/plan.c", "<openssl/evp.h>"),
    ("src/core/err.c", "<somelib.h>"),
    ("src/core/err.c", '"err.h"'),
    ("src/core/err.c", '"../pg/conn.h"'),
    ("contrib/libs3/store.c", '"strata/segment.h"'),
])
def test_arrow_up_is_found(path, include):
    assert found(check.rule_include_arrows, path, f"#include <stdio.h>\n# include {include}\n") == [2]


@pytest.mark.parametrize("path, include", [
    ("include/pgstrata/error.h", "<pgstrata/types.h>"),
    ("src/core/err.c", '"core/err.h"'),
    ("src/core/err.c", "<sys/stat.h>"),
    ("src/pg/conn.c", "<libpq-fe.h>"),
    ("src/pg/setup.c", '"sql/embedded.h"'),
    ("src/strata/segment.c", '"pg/relation.h"'),
    ("archiver/flush.c", '"strata/segment.h"'),
    ("src/cli/main.c", '"restore/restore.h"'),
    ("contrib/libs3/store.c", '"store/store.h"'),
    ("tests/unit/core/err_test.c", '"archiver/archiver.h"'),
])
def test_arrow_down_is_fine(path, include):
    assert found(check.rule_include_arrows, path, f"#include {include}\n") == []


@pytest.mark.parametrize("call", sorted(check.BANNED))
def test_banned_call_is_found(call):
    assert found(check.rule_banned_calls, "src/pg/conn.c", f"int a;\nx = {call} (y);\n") == [2]


@pytest.mark.parametrize("line", [
    "/* sprintf(is) only named\n   here: gets(x) */",
    "// strcpy(a, b)",
    'puts("system(x)");',
    "filesystem(x);",
    "ops->system(x);",
    "strtok_r(a, b, &c);",
])
def test_what_only_looks_banned_is_fine(line):
    assert found(check.rule_banned_calls, "src/pg/conn.c", line + "\n") == []


def test_lines_keep_their_numbers_behind_comments():
    text = '/* one\n * two */\nchar *s = "a\\"b"; /* c */\ngets(s);\n'
    assert found(check.rule_banned_calls, "src/pg/conn.c", text) == [4]


@pytest.mark.parametrize("text, line", [
    ("a\n\tb\n", 2),
    ("a \n", 1),
    ("a\r\n", 1),
    ("a", 1),
    ("a\n\n", 2),
    ("/* " + "a" * 95 + " */\n", 1),
    ("/* TO" "DO: later */\n", 1),
    ("a\n/* FIX" "ME */\n", 2),
    ("/* X" "XX */\n", 1),
    ('open("/wo' 'rk/main");\n', 1),
    ("# see /ro" "ot/notes\n", 1),
    ("# see /home/" "ana/notes\n", 1),
])
def test_text_finding(text, line):
    assert line in found(check.rule_text, "src/core/err.c", text)


@pytest.mark.parametrize("path, text", [
    ("Makefile", "all:\n\ttrue\n"),
    ("src/core/err.c", 'mkdtemp("/tmp/pgs-XXXXXX");\n'),
    ("docs/guide.md", "the $HOME/work/ folder, network/root/ of it\n"),
    ("src/core/err.c", ""),
])
def test_text_that_is_fine(path, text):
    assert found(check.rule_text, path, text) == []


def test_header_without_head_or_guard_is_found():
    assert found(check.rule_header_head, "src/core/err.h", "int x;\n") == [1, 1]
    good = "/* err.h: errors. */\n#ifndef CORE_ERR_H\n#define CORE_ERR_H\n#endif\n"
    assert found(check.rule_header_head, "src/core/err.h", good) == []


def test_long_function_is_found_with_its_name():
    body = "static int\nlong_one(int a,\n         int b)\n{\n" + "    a++;\n" * 9 + "}\n"
    short = "struct s {\n    int x;\n};\n\nvoid\nshort_one(void)\n{\n}\n\n"
    files = {"archiver/flush.c": short + body, "tests/unit/core/err_test.c": body}
    found_long = list(check.check_ratchet(files, {"program": 10, "tests": 11}))
    assert found_long == [("archiver/flush.c", 13, "long_one has 11 lines; the ceiling is 10")]
    assert check.longest_functions(files)["program"][0] == 11

"""The command line: help, exit codes, errors as JSON, settings that are named when they are wrong."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from lib.cluster import Cluster
from lib.rows import assert_same_rows, read_tenant
from lib.school import SCHEMA, School
from lib.sidecar import DONE, FAILED, NOT_FOUND, REFUSED, USAGE, Sidecar

COMMANDS = (
    "setup", "doctor", "serve", "status", "flush", "base", "history", "timeline", "diff", "pitr",
    "point-in-time-recovery", "export", "restore-point create", "restore-point list", "tenant list", "verify",
    "migrate", "teardown",
)


def test_help_lists_every_command(sidecar: Sidecar) -> None:
    shown = sidecar.run("--help", as_json=False)
    assert shown.code == DONE, str(shown)
    for command in COMMANDS:
        if command != "point-in-time-recovery":
            assert f"\n  {command} " in shown.stdout, f"{command} is missing\n{shown}"
    assert re.fullmatch(r"pgstrata \d+\.\d+\.\d+\S*\n", sidecar.run("--version", as_json=False).stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_options_examples_and_exit_codes(sidecar: Sidecar, command: str) -> None:
    shown = sidecar.run(*command.split(), "--help", as_json=False)
    assert shown.code == DONE and not shown.stderr, str(shown)
    for word in ("usage: pgstrata", "--json", "--help", "examples:", "exit codes:"):
        assert word in shown.stdout, f"{word} is missing\n{shown}"
    assert max(map(len, shown.stdout.splitlines())) <= 120, str(shown)


def test_no_command_shows_how_to_use_it(sidecar: Sidecar) -> None:
    shown = sidecar.run(as_json=False)
    assert shown.code == USAGE and "usage: pgstrata" in shown.stderr and not shown.stdout, str(shown)


@pytest.mark.parametrize("wrong, meant", [("statsu", "status"), ("pitt", "pitr"), ("export-", "export")])
def test_an_unknown_command_suggests_the_one_that_was_meant(sidecar: Sidecar, wrong: str, meant: str) -> None:
    error = sidecar.refuses(USAGE, wrong)
    assert wrong in error["message"] and meant in error["hint"], error


@pytest.mark.parametrize("words", [
    ("status", "--nonsense"), ("status", "extra"), ("pitr", "--target-lsn", "0/1"),
    ("export", "-t", "x", "-o", "/nowhere", "--format", "xml"), ("restore-point", "create"), ("tenant",),
    ("history", "-t", "x", "--limit", "many"), ("flush", "--timeout", "soon"),
], ids=" ".join)
def test_wrong_usage_exits_2_and_says_what_is_wrong(sidecar: Sidecar, words: tuple[str, ...]) -> None:
    error = sidecar.refuses(USAGE, *words)
    assert error["message"] and error["code"] == "usage", error
    text = sidecar.run(*words, as_json=False)
    assert text.code == USAGE and not text.stdout and error["message"] in text.stderr, str(text)


def test_errors_in_json_have_code_message_and_hint_and_nothing_else_is_on_stdout(serving: Sidecar) -> None:
    result = serving.run("pitr", "-t", "ninguém", "--target-lsn", "0/1", "--dry-run")
    assert result.code == NOT_FOUND
    assert result.stdout.count("\n") == 1 and {"code", "message", "hint"} <= json.loads(result.stdout)["error"].keys()


def test_before_setup_commands_that_need_an_archive_say_how_to_begin(sidecar: Sidecar, database: str,
                                                                     tmp_path: Path) -> None:
    for words in (("flush",), ("history", "-t", "a"), ("tenant", "list"), ("verify",),
                  ("export", "-t", "a", "-o", str(tmp_path)),
                  ("pitr", "-t", "a", "--target-lsn", "0/1", "--dry-run")):
        error = sidecar.refuses(NOT_FOUND, *words)
        assert "setup" in error["message"] + error["hint"], f"{words}: {error}"


def test_status_always_answers(school: School, sidecar: Sidecar) -> None:
    """Before setup, after it, and without a database."""
    for prepare in (lambda: None, sidecar.setup):
        prepare()
        result = sidecar.run("status")
        assert result.code == FAILED and result.json["state"] == "down", str(result)
        assert result.json["slot"]["advice"], str(result)
    unreachable = sidecar.run("status", environment={"PGSTRATA_DSN": "host=/nowhere dbname=x connect_timeout=2"})
    assert unreachable.code == FAILED and unreachable.json["state"] == "down", str(unreachable)
    assert unreachable.json["database_error"], str(unreachable)


def test_text_answers_are_for_people(serving: Sidecar, school: School) -> None:
    lsn = serving.flush()["archived_lsn"]
    serving.cluster.execute("DELETE FROM avisos WHERE tenant_id = 'rede-00'", database=serving.database)
    status = serving.run("status", as_json=False)
    assert status.code == DONE and re.search(r"^state +streaming$", status.stdout, re.MULTILINE), str(status)
    preview = serving.run("pitr", "-t", "rede-00", "--target-lsn", lsn, "--dry-run", as_json=False)
    assert preview.code == DONE and "public.avisos" in preview.stdout and "--plan" in preview.stdout, str(preview)
    history = serving.run("history", "-t", "rede-00", as_json=False)
    assert history.code == DONE and "delete" in history.stdout, str(history)


# ---- settings ----

@pytest.mark.parametrize("key, value", [
    ("PGSTRATA_FLUSH_INTERVAL", "soon"), ("PGSTRATA_FLUSH_INTERVAL", "0"), ("PGSTRATA_MEMORY", "much"),
    ("PGSTRATA_MEMORY", "1MiB"), ("PGSTRATA_HISTORY_DAYS", "-3"), ("BACKUP_RETENTION_DAYS", "x"),
    ("BACKUP_COMPRESSION", "maybe"), ("PGSTRATA_LOG_FORMAT", "xml"), ("PGSTRATA_LOG_LEVEL", "loud"),
    ("PGSTRATA_FLUSH_INTERVALL", "1s"), ("BACKUP_S3_URL", "https://bucket"), ("BACKUP_S3_URL", "s3://No_Bucket"),
])
def test_a_bad_value_or_unknown_key_is_an_error_that_names_the_key(sidecar: Sidecar, key: str, value: str) -> None:
    error = sidecar.refuses(USAGE, "status", environment={key: value})
    assert key in error["message"], error


@pytest.mark.parametrize("key", ["BACKUP_ENCRYPTION_KEY", "PGSTRATA_KEY_COMMAND"])
def test_a_documented_setting_without_its_feature_is_refused_not_ignored(sidecar: Sidecar, key: str) -> None:
    error = sidecar.refuses(REFUSED, "status", environment={key: "x" * 64})
    assert key in error["message"] and "x" * 64 not in json.dumps(error), error


def test_the_connection_can_come_from_each_source_in_its_order(cluster: Cluster, database: str, school: School,
                                                               sidecar: Sidecar) -> None:
    pieces = {"DB_HOST": str(cluster.folder), "DB_PORT": str(cluster.port), "DB_NAME": database, "DB_USER": "postgres"}
    libpq = {"PGHOST": str(cluster.folder), "PGPORT": str(cluster.port), "PGDATABASE": database, "PGUSER": "postgres"}
    wrong = "host=/nowhere dbname=x"
    for environment, words in (
            ({"PGSTRATA_DSN": None} | pieces, ()),
            ({"PGSTRATA_DSN": None} | libpq, ()),
            ({"DB_HOST": "/nowhere"}, ()),  # weaker than PGSTRATA_DSN
            ({"PGSTRATA_DSN": wrong}, ("--dsn", cluster.dsn(database))),
            ({"PGSTRATA_DSN": None} | pieces | {"PGHOST": "/nowhere", "PGDATABASE": "x"}, ()),
    ):
        answer = sidecar.run("status", *words, environment=environment).json
        assert answer["database_error"] is None and answer["tenants"] == len(school.tenants), f"{environment}: {answer}"


def test_a_config_file_gives_settings_and_routes(cluster: Cluster, database: str, school: School, sidecar: Sidecar,
                                                 folder: Path) -> None:
    file = folder / "pgstrata.json"
    file.write_text(json.dumps({"PGSTRATA_FLUSH_INTERVAL": "1s", "routes": {
        "public.avisos": {"route": "excluded"}, "public.frequencias": {"route": "shared"}}}))
    answer = sidecar.ok("setup", "--config", str(file))
    routes = {table["table"]: table["route"] for table in answer["tables"]}
    assert routes["avisos"] == "excluded" and routes["frequencias"] == "shared" and routes["alunos"] == "column"
    published = cluster.query("SELECT tablename FROM pg_publication_tables", database=database)
    assert ("avisos",) not in published and ("frequencias",) in published

    for wrong in ('{"PGSTRATA_FLUSH_INTERVAL": "soon"}', '{"nonsense": 1}', "{", "[]",
                  '{"routes": {"public.avisos": {"route": "sideways"}}}'):
        file.write_text(wrong)
        error = sidecar.refuses(USAGE, "status", "--config", str(file))
        assert str(file) in error["message"], error


def test_secrets_never_show(sidecar: Sidecar) -> None:
    """Neither in errors nor in logs, wherever the password came from."""
    secret = "muito-secreto-4711"
    for environment in ({"PGSTRATA_DSN": f"host=127.0.0.1 port=1 dbname=x user=y password={secret}"},
                        {"PGSTRATA_DSN": f"postgresql://y:{secret}@127.0.0.1:1/x"},
                        {"PGSTRATA_DSN": None, "DB_HOST": "127.0.0.1", "DB_PORT": "1", "DB_PASSWORD": secret}):
        for command in ("status", "setup", "doctor"):
            result = sidecar.run(command, "--log-level", "debug", environment=environment)
            assert result.code == FAILED and secret not in result.text, str(result)


# ---- export formats ----

def test_csv_tells_null_from_empty_and_sql_loads_into_another_database(
        serving: Sidecar, school: School, folder: Path, cluster: Cluster) -> None:
    serving.ok("export", "-t", "rede-00", "--format", "csv", "-o", str(folder / "csv"))
    file = folder / "csv/public.matriculas.csv"
    with open(file, newline="", encoding="utf-8") as text:
        header = next(csv.reader(text))
    assert header == ["id", "tenant_id", "aluno", "produto_id", "valor", "obs"]
    lines = file.read_text(encoding="utf-8")
    assert re.search(r',""\n', lines) and re.search(r"\d,\n", lines), "an empty string is quoted, NULL is not"

    with cluster.session(serving.database) as cur:
        cur.execute("CREATE TEMP TABLE volta (LIKE matriculas INCLUDING ALL)")
        with open(file, encoding="utf-8") as text:
            cur.copy_expert("COPY volta FROM STDIN (FORMAT csv, HEADER)", text)
        cur.execute("SELECT count(*) FROM volta NATURAL JOIN matriculas m WHERE m.tenant_id = 'rede-00'"
                    " AND volta.obs IS NOT DISTINCT FROM m.obs")
        cur.execute("(TABLE volta EXCEPT SELECT * FROM matriculas WHERE tenant_id = 'rede-00') UNION ALL"
                    " (SELECT * FROM matriculas WHERE tenant_id = 'rede-00' EXCEPT TABLE volta)")
        assert cur.fetchall() == []


def test_an_export_as_sql_can_be_loaded_by_psql_alone(serving: Sidecar, school: School, folder: Path,
                                                      cluster: Cluster) -> None:
    serving.ok("export", "-t", "rede-00", "--format", "sql", "-o", str(folder / "sql"))
    [script] = (folder / "sql").glob("*.sql")
    assert script.name == "rede-00.sql"
    other = f"{serving.database}_copia"
    cluster.create_database(other)
    try:
        cluster.execute(SCHEMA.format(tenant_type="text"), database=other)
        cluster.psql(other, script.read_text(encoding="utf-8"))
        with cluster.session(serving.database) as here, cluster.session(other) as there:
            assert_same_rows(read_tenant(here, school.tables, "rede-00"), read_tenant(there, school.tables, "rede-00"),
                             "loaded from the export")
    finally:
        cluster.drop_database(other)

"""Rows that change without a row event: the archive must refuse, or answer from a base behind the change;
never with the rows as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib.cluster import Cluster
from lib.school import School
from lib.sidecar import DONE, REFUSED, Sidecar

TABLE = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b int);
CREATE TABLE row_type (id int PRIMARY KEY, a int);
CREATE TABLE moods (id int PRIMARY KEY, tenant_id text NOT NULL, m mood, p pair, r row_type, x int);
INSERT INTO moods SELECT i, 'rede-00', 'sad', '(1,2)', '(3,4)', i FROM generate_series(1, 3) AS i;
"""


def moods_at(sidecar: Sidecar, folder: Path, lsn: str) -> list[dict] | None:
    """The archive's answer; None: it refuses."""
    result = sidecar.run("export", "-t", "rede-00", "--target-lsn", lsn, "--tables", "moods", "--format", "jsonl",
                         "-o", str(folder / lsn.replace("/", "-")))
    if result.code == REFUSED:
        return None
    assert result.code == DONE, str(result)
    file = folder / lsn.replace("/", "-") / "public.moods.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("change", [
    "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
    "ALTER TYPE pair ADD ATTRIBUTE c int",
    "ALTER TYPE pair DROP ATTRIBUTE b",
    "ALTER TABLE row_type ADD b int",
    "ALTER TABLE moods ALTER x TYPE int USING x + 1",
    "ALTER PUBLICATION pgstrata DROP TABLE moods; UPDATE moods SET x = 7; ALTER PUBLICATION pgstrata ADD TABLE moods",
])
def test_rows_that_changed_without_row_events_are_never_answered_as_they_were(
        cluster: Cluster, database: str, school: School, serving: Sidecar, folder: Path, change: str) -> None:
    cluster.execute(TABLE, database=database)
    serving.wait_ready()
    before = cluster.query_value("SELECT pg_current_wal_insert_lsn()::text", database=database)
    cluster.execute(f"BEGIN; {change}; COMMIT", database=database)
    after = cluster.query_value("SELECT pg_current_wal_insert_lsn()::text", database=database)
    live = [dict(row[0]) for row in cluster.query(
        "SELECT jsonb_build_object('id', id::text, 'tenant_id', tenant_id, 'm', m::text, 'p', p::text, 'r', r::text, 'x', x::text)"
        " FROM moods ORDER BY id", database=database)]
    serving.flush()
    answer = moods_at(serving, folder, after)
    assert answer is None or answer == live, f"{change}: {answer}, live {live}"
    then = moods_at(serving, folder, before)
    assert then is not None and [row["x"] for row in then] == ["1", "2", "3"], then
    serving.wait_ready()
    cluster.execute("UPDATE moods SET tenant_id = tenant_id", database=database)
    serving.flush()
    now = cluster.query_value("SELECT pg_current_wal_insert_lsn()::text", database=database)
    serving.flush()
    assert moods_at(serving, folder, now) == live


def test_a_table_that_another_event_trigger_filled_does_not_begin_empty(
        cluster: Cluster, database: str, school: School, serving: Sidecar, folder: Path) -> None:
    """Its name sorts before ours: the row is there before the table is published."""
    cluster.execute(
        "CREATE FUNCTION seed() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO moods VALUES (1, 'rede-00'); END $$;"
        " CREATE EVENT TRIGGER a_seed ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION seed();"
        " CREATE TABLE moods (id int PRIMARY KEY, tenant_id text)", database=database)
    at = cluster.query_value("SELECT pg_current_wal_insert_lsn()::text", database=database)
    serving.flush()
    row = {"id": "1", "tenant_id": "rede-00"}
    assert moods_at(serving, folder, at) in (None, [row])
    serving.wait_ready()
    now = cluster.query_value("SELECT pg_current_wal_insert_lsn()::text", database=database)
    serving.flush()
    assert moods_at(serving, folder, now) == [row]

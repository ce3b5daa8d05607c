"""The harness itself, without pgstrata: what the other tests believe about PostgreSQL holds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Callable

import pytest

from lib import targets, wal
from lib.cluster import Cluster, lsn_number, lsn_text
from lib.oracle import Oracle
from lib.rows import SHARED, Rows, differences, read_all, row_count, tables_of
from lib.school import create_school
from lib.workload import ACROSS_TENANTS, EVERYDAY, Workload

pytestmark = pytest.mark.harness


def test_copy_text_is_read_back_as_it_was(cluster: Cluster, database: str) -> None:
    values = ["", "NULL", "\\N", "tab\there", "line\nbreak", "\r", "back\\slash", "\b\f\v", "ção", None]
    with cluster.session(database) as cur:
        cur.execute("CREATE TABLE t (id text PRIMARY KEY, tenant_id text, v text, yes boolean, c char(3))")
        for number, value in enumerate(values):
            cur.execute("INSERT INTO t VALUES (%s, 'a', %s, true, 'x')", (str(number), value))
        rows = read_all(cur, tables_of(cur), ["a"])["a"]["public.t"]
    assert [row["v"] for row in sorted(rows, key=lambda row: int(row["id"]))] == values
    assert {(row["yes"], row["c"]) for row in rows} == {("t", "x  ")}


def test_differences_show_what_is_missing_and_what_is_surplus() -> None:
    same = {"public.t": [{"id": "1"}, {"id": "1"}], "public.empty": []}
    assert differences(same, {"public.t": [{"id": "1"}, {"id": "1"}]}) == []
    found = differences(same, {"public.t": [{"id": "1"}, {"id": None}]})
    assert "1 missing, 1 surplus" in found[0] and "id='1'" in found[1] and "id=NULL" in found[2]


def test_every_server_mode_of_the_cluster_works(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster()
    cluster.execute("CREATE TABLE t (i int)")
    cluster.restart("immediate", wal_level="replica")
    assert cluster.setting("wal_level") == "replica"
    assert cluster.query("SELECT * FROM t") == []
    cluster.reload(synchronous_standby_names="")
    cluster.stop()
    assert not cluster.is_running()


def test_recovery_to_the_end_of_a_run_equals_the_live_database(
        new_cluster: Callable[..., Cluster], scratch: Path) -> None:
    """And every kind of target can be visited, in one ascending pass over one copy."""
    cluster = new_cluster(archive=True)
    conn = cluster.connect()
    school = create_school(conn)
    oracle = Oracle.take(cluster, scratch / "harness-oracle")
    try:
        begin = cluster.insert_lsn()
        with Workload(cluster, "postgres", school.tenants, seed=3, operations=EVERYDAY + ACROSS_TENANTS) as workload:
            workload.wait_commits(150)
        with conn.cursor() as cur:
            live = read_all(cur, school.tables, [*school.tenants, SHARED])
        end = cluster.insert_lsn()
        cluster.execute("SELECT pg_logical_emit_message(true, 'end', '')")
        cluster.switch_wal()

        endings = wal.endings(cluster, begin, end)
        covered = {commit.xid for commit in workload.committed}
        assert covered <= {ending.xid for ending in endings if ending.commit}
        assert any(not ending.commit for ending in endings), "the workload rolled nothing back"

        boundaries = [commit.insert_lsn_after for commit in workload.committed if commit.insert_lsn_after]
        chosen = targets.spread(endings, covered, boundaries, 11, random.Random(3))
        assert {target.kind for target in chosen} == {
            "target-lsn", "target-xid", "target-time", "before-lsn", "before-xid"}
        seen: dict[str, dict[str, Rows]] = {}

        def look(target: targets.Target, copy: Cluster) -> None:
            with copy.session() as cur:
                seen[str(target)] = read_all(cur, school.tables, [*school.tenants, SHARED])

        oracle.visit([*chosen, targets.at_lsn(lsn_number(end))], look)
        assert len(seen) == 12 and lsn_text(lsn_number(end)) == end
        at_the_end = seen[str(targets.at_lsn(lsn_number(end)))]
        for tenant, rows in live.items():
            assert row_count(rows) > 0
            assert not differences(rows, at_the_end[tenant]), tenant
        assert len({repr(rows) for rows in seen.values()}) > 6, "the targets hardly differ"
    finally:
        oracle.remove()
        conn.close()

"""The server changes under the archive: a standby is promoted, a slot is lost, the database moves elsewhere.
What is known before and after stays known, what is not is a gap that says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import pytest

from lib.checks import assert_archive_equals_live, export_all, live_rows
from lib.cluster import Cluster, lsn_number, run_as_server
from lib.rows import Rows, assert_same_rows
from lib.school import School, create_school
from lib.sidecar import DONE, REFUSED, Sidecar, read_jsonl
from lib.wait import wait_for
from lib.workload import Workload

NewCluster = Callable[..., Cluster]
NewSidecar = Callable[..., Sidecar]
TENANT = "rede-00"


@pytest.fixture
def primary(new_cluster: NewCluster) -> Cluster:
    return new_cluster()


@pytest.fixture
def school(primary: Cluster) -> School:
    conn = primary.connect()
    try:
        return create_school(conn)
    finally:
        conn.close()


@pytest.fixture
def serving(primary: Cluster, school: School, new_sidecar: NewSidecar) -> Sidecar:
    sidecar = new_sidecar(primary, "postgres")
    sidecar.start()
    return sidecar


def with_archive_of(sidecar: Sidecar, cluster: Cluster, new_sidecar: NewSidecar) -> Sidecar:
    """The sidecar of another server that goes on with the same archive."""
    other = new_sidecar(cluster, "postgres")
    other.environment["BACKUP_DIR"] = sidecar.environment["BACKUP_DIR"]
    return other


def stop(sidecar: Sidecar) -> None:
    """A stop archives what was received; a flush before it, all that was committed."""
    sidecar.flush()
    assert sidecar.terminate() == DONE, sidecar.log_tail()


# ---- moments ----

@dataclass(frozen=True)
class Moment:
    """A commit, and what the database was right after it."""

    lsn: str
    xid: str
    time: str
    rows: Mapping[str, Rows]


def note(cluster: Cluster, text: str) -> tuple[str, str, str]:
    """One notice of the tenant: xid, the LSN behind it, a time when it had committed."""
    with cluster.session() as cur:
        cur.execute("INSERT INTO avisos SELECT max(id) + 1, %s, %s FROM avisos RETURNING pg_current_xact_id()::text",
                    (TENANT, text))
        xid = cur.fetchone()[0]
        cur.execute("SELECT pg_current_wal_insert_lsn()::text, to_char(clock_timestamp() AT TIME ZONE 'UTC',"
                    " 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        lsn, time = cur.fetchone()
    return xid, lsn, time


def moment(cluster: Cluster, school: School, text: str) -> Moment:
    """Nobody else may be writing."""
    xid, lsn, time = note(cluster, text)
    seen = Moment(lsn, xid, time, live_rows(cluster, "postgres", school))
    note(cluster, f"after {text}")  # so that its time lies between two commits
    return seen


def answers(sidecar: Sidecar, school: School, seen: Moment, *words: str) -> None:
    """The archive's answer is what was there, for one tenant and the shared tables."""
    for number, tenant in enumerate((TENANT, school.tenants[-1])):
        folder = sidecar.logfile.parent / f"e{abs(hash((words, tenant, number)))}"
        sidecar.ok("export", "-t", tenant, *words, "--format", "jsonl", "-o", str(folder))
        exported = export_rows(folder, school, tenant)
        assert_same_rows(seen.rows[tenant], exported, f"{tenant} at {' '.join(words)}")


def export_rows(folder: Path, school: School, tenant: str) -> Rows:
    written = {file.name.removesuffix(".jsonl"): read_jsonl(file) for file in folder.glob("*.jsonl")}
    return {table.full_name: written.get(table.full_name, []) for table in school.tables if table.tenant_column}


def texts(sidecar: Sidecar, school: School, tenant: str = TENANT) -> set[str | None]:
    rows = export_all(sidecar, school.tables, [tenant])[tenant]["public.avisos"]
    return {row["texto"] for row in rows}


def items(sidecar: Sidecar, kind: str) -> list[Mapping[str, Any]]:
    return [item for item in sidecar.ok("timeline", "-t", TENANT)["items"] if item["kind"] == kind]


# ---- a standby ----

@pytest.fixture
def standby(primary: Cluster, serving: Sidecar, folder: Path) -> Iterator[Cluster]:
    """Streaming from the primary, caught up."""
    copied = Cluster(folder / "standby", {**primary.settings, "hot_standby": "on"})
    run_as_server([primary.bindir / "pg_basebackup", "-d", primary.dsn(), "-D", copied.data, "-X", "stream", "-c", "fast",
                   "--no-sync", "--no-manifest"])
    copied.settings["primary_conninfo"] = primary.dsn()
    (copied.data / "standby.signal").touch()
    copied.start()
    wait_until_caught_up(primary, copied)
    yield copied
    copied.remove()


def wait_until_caught_up(primary: Cluster, standby: Cluster) -> None:
    there = primary.query_value("SELECT pg_current_wal_flush_lsn()::text")
    wait_for("the standby to catch up", lambda: standby.query_value(
        "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (there,)), 30, standby.log_tail)


def leave_behind(standby: Cluster) -> None:
    """It receives nothing any more."""
    standby.reload(primary_conninfo="")
    wait_for("the standby to be on its own", lambda: standby.query_value(
        "SELECT count(*) = 0 FROM pg_stat_wal_receiver"), 30, standby.log_tail)


def promote(standby: Cluster) -> int:
    """Returns the LSN where the timelines part."""
    standby.pg_ctl("promote")
    wait_for("the end of recovery", lambda: not standby.query_value("SELECT pg_is_in_recovery()"), 30)
    [history] = (standby.data / "pg_wal").glob("00000002.history")
    return lsn_number(history.read_text().split()[1])


def test_a_standby_behind_the_archive_is_promoted_under_load(primary: Cluster, school: School, serving: Sidecar,
                                                             standby: Cluster, new_sidecar: NewSidecar) -> None:
    before = moment(primary, school, "before")
    serving.ok("restore-point", "create", "calm")
    note(primary, "both have it")
    wait_until_caught_up(primary, standby)
    leave_behind(standby)
    with Workload(primary, "postgres", school.tenants, writers=3, reconnect=True) as load:
        load.wait_commits(30)
        tail_xid, tail_lsn, tail_time = note(primary, "abandoned")
        serving.ok("restore-point", "create", "in-the-tail")
        load.wait_commits(10)
        serving.flush()
        serving.kill9()
        primary.stop("immediate")
        end = serving_end(serving)
        switch = promote(standby)
    assert switch < lsn_number(tail_lsn) <= end, "the standby is not behind the archive"

    promoted = with_archive_of(serving, standby, new_sidecar)
    with Workload(standby, "postgres", school.tenants, writers=3, seed=5) as load:
        load.wait_commits(10)
        promoted.setup()
        promoted.start_serve()
        promoted.wait_ready()
        load.wait_commits(20)
    assert_archive_equals_live(promoted, school)
    assert "abandoned" not in texts(promoted, school) and "both have it" in texts(promoted, school)

    # The tail is in no answer, and a target in it says why.
    for words in (["--target-lsn", tail_lsn], ["--target-time", tail_time], ["--target-xid", tail_xid, "--era", "1"],
                  ["--target-name", "in-the-tail"], ["--target-lsn", tail_lsn, "--era", "1"]):
        if words == ["--target-lsn", tail_lsn] and lsn_number(tail_lsn) >= era_begin(promoted):
            continue  # the new era has this position too, and means its own
        error = promoted.refuses(REFUSED, "pitr", "-t", TENANT, *words, "--dry-run")
        assert "era 1 was left at" in error["message"] and "abandoned" in error["message"], error
        assert lsn_number(error["nearest_before"]["lsn"]) == switch, error
        assert lsn_number(error["nearest_after"]["lsn"]) >= era_begin(promoted), error
    found = promoted.ok("history", "-t", TENANT, "--table", "avisos", "--era", "1", "--limit", "100000")["items"]
    assert "both have it" in {item["after"]["texto"] for item in found if item["after"]}
    assert "abandoned" not in {item["after"]["texto"] for item in found if item["after"]}
    now = promoted.ok("history", "-t", TENANT, "--table", "avisos", "--limit", "100000")["items"]
    assert not {"abandoned", "both have it"} & {item["after"]["texto"] for item in now if item["after"]}

    # What both have is answered as before, also in place.
    for words in (["--target-lsn", before.lsn], ["--target-time", before.time], ["--target-xid", before.xid]):
        answers(promoted, school, before, *words)
    promoted.ok("export", "-t", TENANT, "--target-name", "calm", "--format", "jsonl", "-o",
                str(promoted.logfile.parent / "calm"))
    done = promoted.pitr(TENANT, "--target-lsn", before.lsn)
    assert done["status"] == "completed" and done["method"] == "full", done
    assert_same_rows(before.rows[TENANT], live_rows(standby, "postgres", school)[TENANT], "after the restore in place")
    assert_archive_equals_live(promoted, school)

    status = promoted.status()
    assert [era["era"] for era in status["eras"]] == [1, 2], status
    assert lsn_number(status["eras"][0]["end_lsn"]) == switch and status["eras"][1]["end_lsn"] is None, status
    [gap] = [gap for gap in status["gaps"] if gap["tables"] == ["*"]]
    assert lsn_number(gap["begin_lsn"]) == switch and lsn_number(gap["end_lsn"]) == era_begin(promoted), status
    assert [item["text"] for item in items(promoted, "era")] == ["era 2: the server's timeline left the archive's"]
    assert gap["begin_lsn"] in [item["begin_lsn"] for item in items(promoted, "gap")]
    verified = promoted.ok("verify")
    assert verified["valid"], verified


def serving_end(sidecar: Sidecar) -> int:
    """The archive's end, with the database gone."""
    last = max(sidecar.backups.glob(".pgstrata/*/log/*"))
    return lsn_number(json.loads(last.read_text().split("\n", 1)[0])["range"]["end"])


def era_begin(sidecar: Sidecar) -> int:
    return lsn_number(sidecar.status()["eras"][-1]["begin_lsn"])


def test_a_standby_that_has_all_of_the_archive_leaves_a_gap_and_no_era(primary: Cluster, school: School,
                                                                       serving: Sidecar, standby: Cluster,
                                                                       new_sidecar: NewSidecar) -> None:
    before = moment(primary, school, "before")
    stop(serving)
    note(primary, "never archived")
    wait_until_caught_up(primary, standby)
    primary.stop("immediate")
    promote(standby)
    promoted = with_archive_of(serving, standby, new_sidecar)
    promoted.setup()
    promoted.start_serve()
    promoted.wait_ready()
    assert_archive_equals_live(promoted, school)
    assert "never archived" in texts(promoted, school)
    assert len(promoted.status()["eras"]) == 1 and not items(promoted, "era")
    [gap] = items(promoted, "gap")
    error = promoted.refuses(REFUSED, "pitr", "-t", TENANT, "--target-lsn", gap["end_lsn"], "--dry-run")
    assert lsn_number(error["nearest_before"]["lsn"]) == lsn_number(gap["begin_lsn"]), error
    answers(promoted, school, before, "--target-lsn", before.lsn)

    # The log has the new timeline's number: of what follows, the old primary knows nothing.
    stop(promoted)
    primary.start()
    old = with_archive_of(serving, primary, new_sidecar)
    old.start_serve()
    wait_for("a new era, of the old timeline", lambda: len(old.status()["eras"]) == 2, 30, old.log_tail)
    old.wait_ready()
    assert_archive_equals_live(old, school)
    answers(old, school, before, "--target-lsn", before.lsn)


# ---- slots ----

def test_a_slot_that_lost_its_wal_is_named_and_made_again(primary: Cluster, school: School, serving: Sidecar) -> None:
    before = moment(primary, school, "before")
    stop(serving)
    name = serving.slot()["name"]
    note(primary, "never archived")
    _, inside, _ = note(primary, "nor this")
    primary.reload(max_slot_wal_keep_size="1")

    def lost() -> bool:
        with primary.session() as cur:
            for _ in range(4):
                cur.execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))")
            cur.execute("CHECKPOINT")
        return primary.query_value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", (name,)) == "lost"

    wait_for("the slot to lose its WAL", lost)
    advice = serving.run("status").json["slot"]
    assert advice["wal_status"] == "lost" and "lost WAL" in advice["advice"], advice
    serving.start_serve()
    assert serving.wait_exit() == REFUSED, serving.log_tail()
    assert f"slot {name} has lost WAL" in serving.log() and "pg_drop_replication_slot" in serving.log()

    primary.query("SELECT pg_drop_replication_slot(%s)", (name,))
    serving.start_serve()
    assert serving.wait_exit() != DONE, serving.log_tail()
    assert f"slot {name} does not exist" in serving.log()
    primary.reload(max_slot_wal_keep_size="-1")
    serving.setup()
    serving.start_serve()
    serving.wait_ready()
    [gap] = [gap for gap in serving.status()["gaps"] if gap["tables"] == ["*"]]
    assert lsn_number(gap["begin_lsn"]) < lsn_number(inside) < lsn_number(gap["end_lsn"]), gap
    assert len(serving.status()["eras"]) == 1 and len(items(serving, "gap")) == 1
    error = serving.refuses(REFUSED, "pitr", "-t", TENANT, "--target-lsn", inside, "--dry-run")
    assert "slot was lost" in error["message"], error
    assert lsn_number(error["nearest_before"]["lsn"]) == lsn_number(gap["begin_lsn"]), error
    answers(serving, school, before, "--target-lsn", before.lsn)
    answers(serving, school, before, "--target-time", before.time)
    assert_archive_equals_live(serving, school)


# ---- another server ----

def test_a_move_to_another_server_keeps_history_before_and_after(primary: Cluster, school: School, serving: Sidecar,
                                                                 new_cluster: NewCluster, new_sidecar: NewSidecar,
                                                                 folder: Path) -> None:
    """Dump and load: a new system id, new oids, positions that begin anew and lower."""
    with primary.session() as cur:
        for _ in range(30):
            cur.execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))")
    before = moment(primary, school, "before")
    serving.ok("restore-point", "create", "calm")
    last_xid, last_lsn, _ = note(primary, "the last")
    stop(serving)
    dump = primary.folder / "dump.sql"
    run_as_server([primary.bindir / "pg_dump", "-d", primary.dsn(), "-f", dump])
    elsewhere = new_cluster()
    run_as_server([elsewhere.bindir / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", elsewhere.dsn(), "-f", dump])
    primary.stop()

    moved = with_archive_of(serving, elsewhere, new_sidecar)
    moved.setup()
    moved.start_serve()
    assert moved.wait_exit() == REFUSED, moved.log_tail()
    assert "its system id differs" in moved.log() and "--take-over" in moved.log()
    moved.start_serve("--take-over")
    moved.wait_ready()
    after = moment(elsewhere, school, "after")
    assert lsn_number(after.lsn) < lsn_number(before.lsn), "positions do not begin lower"
    assert_archive_equals_live(moved, school)
    assert "the last" in texts(moved, school)

    answers(moved, school, after, "--target-lsn", after.lsn)
    answers(moved, school, after, "--target-time", after.time)
    answers(moved, school, before, "--target-time", before.time)
    answers(moved, school, before, "--target-lsn", before.lsn, "--era", "1")
    answers(moved, school, before, "--target-xid", before.xid, "--era", "1")
    moved.ok("export", "-t", TENANT, "--target-name", "calm", "--format", "sql", "-o", str(folder / "calm"))

    # Without its era a position is the current era's: here it lies in the future.
    assert moved.refuses(REFUSED, "pitr", "-t", TENANT, "--target-lsn", before.lsn, "--dry-run")["code"] == "future"
    error = moved.refuses(REFUSED, "pitr", "-t", TENANT, "--target-lsn", "0/1", "--dry-run")
    assert "another server" in error["message"] and "--era 1" in error["hint"], error
    error = moved.refuses(REFUSED, "pitr", "-t", TENANT, "--target-time", before.time, "--dry-run")
    assert error["code"] == "other_server" and "--to-schema" in error["hint"], error
    restored = moved.pitr(TENANT, "--target-lsn", after.lsn)
    assert restored["status"] == "completed", restored
    assert_same_rows(after.rows[TENANT], live_rows(elsewhere, "postgres", school)[TENANT], "after the restore in place")
    eras = moved.status()["eras"]
    assert [era["era"] for era in eras] == [1, 2] and "new system id" in eras[1]["reason"], eras
    assert [item["text"] for item in items(moved, "era")] == [
        "era 2: the database moved to a server with a new system id"]
    found = moved.ok("history", "-t", TENANT, "--table", "avisos", "--era", "1")["items"]
    assert last_xid in {str(item["xid"]) for item in found}, found
    assert last_lsn in {item["commit_end_lsn"] for item in found}
    assert moved.ok("verify")["valid"]

    # Once taken over it is the archived server: no flag is needed any more.
    stop(moved)
    moved.start_serve()
    moved.wait_ready()
    assert_archive_equals_live(moved, school)
    assert len(moved.status()["eras"]) == 2
    beside = moved.pitr(TENANT, "--target-time", before.time, "--to-schema", "look")
    assert beside["status"] == "completed", beside
    assert elsewhere.query_value("SELECT count(*) FROM look.avisos") == len(before.rows[TENANT]["public.avisos"])

"""serve: nothing is confirmed before it is archived, nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import random
import resource
import signal
import socket
from pathlib import Path
from typing import Callable

import pytest

from lib.checks import assert_archive_equals_live
from lib.cluster import Cluster, lsn_number
from lib.school import School, create_school
from lib.sidecar import DONE, FAILED, Sidecar
from lib.wait import wait_for
from lib.workload import ACROSS_TENANTS, EVERYDAY, Workload

MIB = 1 << 20


def commit_numbered(cluster: Cluster, database: str, first: int, count: int) -> None:
    """Transactions that can be counted: notice `n` of tenant rede-00, one commit each."""
    with cluster.session(database) as cur:
        for number in range(first, first + count):
            cur.execute("INSERT INTO avisos VALUES (%s, 'rede-00', 'contado')", (10**9 + number,))


def assert_each_number_once(sidecar: Sidecar, count: int) -> None:
    items = sidecar.ok("history", "-t", "rede-00", "--table", "avisos", "--limit", "100000", "--ascending")["items"]
    numbers = [int(item["after"]["id"]) - 10**9 for item in items
               if item["op"] == "insert" and item["after"]["texto"] == "contado"]
    assert numbers == list(range(count)), (
        f"lost: {sorted(set(range(count)) - set(numbers))[:10]},"
        f" twice: {sorted({n for n in numbers if numbers.count(n) > 1})[:10]}")


@pytest.fixture
def own_cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """For tests that stop or crash the server."""
    return new_cluster()


@pytest.fixture
def own_school(own_cluster: Cluster) -> School:
    conn = own_cluster.connect()
    try:
        return create_school(conn)
    finally:
        conn.close()


# ---- start and stop ----

def test_serve_takes_bases_and_streams(serving: Sidecar, school: School) -> None:
    status = serving.status()
    assert status["state"] == "streaming" and status["tenants"] == len(school.tenants), status
    assert lsn_number(status["archived_lsn"]) > 0 and status["slot"]["active"], status
    assert {item["tenant"] for item in serving.ok("tenant", "list")["items"]} >= set(school.tenants)
    assert_archive_equals_live(serving, school)
    live = serving.ok("verify", "--live")
    assert live["valid"] and live["rows_compared"] > 0, live


def test_sigterm_archives_and_confirms_everything_and_exits_0(serving: Sidecar, school: School) -> None:
    with Workload(serving.cluster, serving.database, school.tenants, operations=EVERYDAY + ACROSS_TENANTS) as workload:
        workload.wait_commits(60)
    last = serving.cluster.query_value("SELECT pg_current_wal_flush_lsn()::text")
    # The slot's own check: no one else writes covered tables after this.
    commit_numbered(serving.cluster, serving.database, 0, 1)
    assert serving.terminate() == DONE, serving.log_tail()
    slot = serving.slot()
    assert not slot["active"] and lsn_number(slot["confirmed"]) >= lsn_number(last), f"{slot}, last commit {last}"
    status = serving.run("status")
    assert status.code == FAILED and status.json["state"] == "down", str(status)
    assert lsn_number(slot["confirmed"]) <= lsn_number(status.json["archived_lsn"]), f"{slot}\n{status}"

    serving.start_serve()
    serving.wait_ready()
    assert_archive_equals_live(serving, school)


def test_a_second_serve_does_not_disturb_the_first(serving: Sidecar, school: School,
                                                   new_sidecar: Callable[..., Sidecar]) -> None:
    """It is refused or waits its turn; the first streams on."""
    second = new_sidecar(serving.cluster, serving.database)
    second.environment["BACKUP_DIR"] = serving.environment["BACKUP_DIR"]
    second.start_serve()
    wait_for("the second serve to give up, or to say that it waits",
             lambda: not second.serves() or "active" in second.log() or "wait" in second.log(), 30, second.log_tail)
    for number in range(5):
        commit_numbered(serving.cluster, serving.database, number, 1)
        serving.flush()
    assert serving.serves(), serving.log_tail()
    if not second.serves():
        assert second.wait_exit() != DONE, second.log_tail()
    second.end()
    assert_each_number_once(serving, 5)
    assert_archive_equals_live(serving, school)


# ---- what is confirmed ----

def assert_confirmed_is_archived(sidecar: Sidecar) -> None:
    """Both numbers stand still while serve does: it is stopped in whatever it was doing."""
    sidecar.signal(signal.SIGSTOP)
    try:
        slot, status = sidecar.slot(), sidecar.status()
    finally:
        sidecar.signal(signal.SIGCONT)
    assert lsn_number(slot["confirmed"]) <= lsn_number(status["archived_lsn"]), (
        f"confirmed {slot['confirmed']} is beyond what is archived, {status['archived_lsn']}")


def test_the_slot_is_never_confirmed_beyond_the_archive_under_load(serving: Sidecar, school: School) -> None:
    with Workload(serving.cluster, serving.database, school.tenants) as workload:
        for _ in range(20):
            workload.wait_commits(10)
            assert_confirmed_is_archived(serving)
    assert_archive_equals_live(serving, school)


def test_an_idle_database_is_confirmed_by_range_entries(serving: Sidecar, school: School) -> None:
    """WAL of other databases must not be kept for ever; and what is confirmed is in the log even then."""
    before = lsn_number(serving.slot()["confirmed"])
    with serving.cluster.session() as cur:
        for _ in range(80):
            cur.execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))")

    def confirmed() -> bool:
        assert_confirmed_is_archived(serving)
        return lsn_number(serving.slot()["confirmed"]) - before > 60 * MIB

    wait_for("an idle slot to move on by 60 MiB", confirmed, 60, serving.log_tail)
    assert_archive_equals_live(serving, school)


# ---- kill -9 ----

def test_kill_9_at_random_moments_loses_nothing_and_repeats_nothing(serving: Sidecar, school: School) -> None:
    rng = random.Random(9)
    counted = 0
    with Workload(serving.cluster, serving.database, school.tenants, seed=9,
                  operations=EVERYDAY + ACROSS_TENANTS) as workload:
        for _ in range(6):
            numbered = rng.randrange(1, 20)
            commit_numbered(serving.cluster, serving.database, counted, numbered)
            counted += numbered
            workload.wait_commits(rng.randrange(1, 25))
            serving.kill9()
            serving.start_serve()  # and the next kill may meet it while it still starts
    serving.wait_ready()
    commit_numbered(serving.cluster, serving.database, counted, 1)
    assert_archive_equals_live(serving, school)
    verified = serving.ok("verify")
    assert verified["valid"], verified


def test_numbered_transactions_come_once_each_through_kills(serving: Sidecar) -> None:
    """Without TRUNCATE and rollbacks beside them, history must show each exactly once, in order."""
    for round_number in range(5):
        commit_numbered(serving.cluster, serving.database, round_number * 20, 20)
        serving.kill9()
        serving.start_serve()
    serving.wait_ready()
    assert_each_number_once(serving, 100)


def test_a_new_machine_with_the_same_archive_goes_on(serving: Sidecar, school: School,
                                                     new_sidecar: Callable[..., Sidecar]) -> None:
    """Nothing but the archive and the slot is needed: another working folder, another process."""
    commit_numbered(serving.cluster, serving.database, 0, 10)
    serving.kill9()
    commit_numbered(serving.cluster, serving.database, 10, 10)
    other = new_sidecar(serving.cluster, serving.database)
    other.environment["BACKUP_DIR"] = serving.environment["BACKUP_DIR"]
    other.start_serve()
    other.wait_ready()
    assert_each_number_once(other, 20)
    assert_archive_equals_live(other, school)


def test_a_slot_that_was_dropped_and_made_again_leaves_a_gap_that_a_base_closes(serving: Sidecar,
                                                                               school: School) -> None:
    commit_numbered(serving.cluster, serving.database, 0, 3)
    inside = None
    assert serving.terminate() == DONE
    name = serving.slot()["name"]
    with serving.cluster.session(serving.database) as cur:
        cur.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        cur.execute("INSERT INTO avisos VALUES (7, 'rede-00', 'nunca arquivado')")
        cur.execute("SELECT pg_current_wal_insert_lsn()::text")
        inside = cur.fetchone()[0]
        cur.execute("DELETE FROM avisos WHERE id = 7")
    serving.setup()
    serving.start_serve()
    serving.wait_ready()
    assert serving.status()["gaps"], serving.run("status")
    error = serving.refuses(4, "pitr", "-t", "rede-00", "--target-lsn", inside, "--dry-run")
    assert lsn_number(error["nearest_before"]["lsn"]) <= lsn_number(inside) <= lsn_number(
        error["nearest_after"]["lsn"]), error
    assert_archive_equals_live(serving, school)


# ---- memory ----

def test_one_large_transaction_passes_through_a_small_budget(cluster: Cluster, database: str, school: School,
                                                             new_sidecar: Callable[..., Sidecar]) -> None:
    rows = 300_000
    sidecar = new_sidecar(cluster, database, settings={"PGSTRATA_MEMORY": "64MiB"})
    sidecar.start()
    cluster.execute(
        "INSERT INTO avisos SELECT 1000000 + i, (ARRAY['rede-00', 'rede-01'])[1 + i %% 2], repeat('x', 400) || i"
        " FROM generate_series(1, %s) AS i", (rows,), database)
    sidecar.ok("flush", "--timeout", "80s")
    peak = peak_memory(sidecar.serve_pid)
    assert peak <= (64 + 64) * MIB + 4 * MIB, f"peak of serve: {peak / MIB:.0f} MiB"
    exported = sidecar.export("rede-00", school.tables, sidecar.logfile.parent / "large")["public.avisos"]
    assert len([row for row in exported if int(row["id"]) > 1000000]) == rows // 2
    assert {row["texto"] for row in exported if int(row["id"]) > 1000000} == {
        "x" * 400 + str(i) for i in range(2, rows + 1, 2)}


def peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmHWM of {pid}")


# ---- how it is run ----

def bases_of(sidecar: Sidecar, tenant: str) -> int:
    return sum(item["kind"] == "base" for item in sidecar.ok("timeline", "-t", tenant)["items"])


def test_sighup_reloads_the_file_and_bases_come_on_a_schedule(school: School, sidecar: Sidecar, folder: Path) -> None:
    """A file that cannot be understood leaves the settings that are in force."""
    file = folder / "pgstrata.json"
    file.write_text("{}")
    sidecar.environment["PGSTRATA_CONFIG"] = str(file)
    sidecar.start()
    first = bases_of(sidecar, school.tenants[0])
    file.write_text(json.dumps({"PGSTRATA_BASE_INTERVAL": "1s"}))
    sidecar.signal(signal.SIGHUP)
    wait_for("two more bases of each table", lambda: bases_of(sidecar, school.tenants[0]) >= 3 * first, 60, sidecar.log_tail)
    assert "reloaded" in sidecar.log()
    file.write_text("{nonsense")
    del sidecar.environment["PGSTRATA_CONFIG"]  # what follows would stumble over it; serve has its own
    sidecar.signal(signal.SIGHUP)
    wait_for("serve to say that it keeps its settings", lambda: "reload_failed" in sidecar.log(), 10, sidecar.log_tail)
    now = bases_of(sidecar, school.tenants[0])
    wait_for("the schedule to go on", lambda: bases_of(sidecar, school.tenants[0]) > now, 60, sidecar.log_tail)
    assert_archive_equals_live(sidecar, school)


def test_logs_for_machines_are_json_lines(school: School, sidecar: Sidecar) -> None:
    sidecar.environment["PGSTRATA_LOG_FORMAT"] = "json"
    sidecar.start()
    assert sidecar.terminate() == DONE
    events = [json.loads(line) for line in sidecar.log().splitlines()]
    assert {"archive_open", "streaming", "base_taken", "stopping"} <= {event["event"] for event in events}, events
    assert all(event["time"].endswith("Z") and event["level"] for event in events), events


def test_systemd_is_told_of_readiness_life_and_stop(school: School, sidecar: Sidecar, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(60)
        sidecar.environment["NOTIFY_SOCKET"] = str(folder / "notify")
        sidecar.start()
        told: list[str] = []

        def hear_until(word: str) -> None:
            while word not in told:
                told.extend(listener.recv(4096).decode().split("\n"))

        hear_until("READY=1")
        told.clear()
        hear_until("WATCHDOG=1")
        assert sidecar.terminate() == DONE
        hear_until("STOPPING=1")


# ---- the store comes and goes ----

def test_a_store_that_is_away_delays_nobody_and_loses_nothing(own_cluster: Cluster, own_school: School,
                                                              new_sidecar: Callable[..., Sidecar]) -> None:
    """Writers go on, a fast shutdown of PostgreSQL returns in time, and everything is archived afterwards."""
    sidecar = new_sidecar(own_cluster, "postgres")
    sidecar.start()
    away = sidecar.backups.with_name("away")
    with Workload(own_cluster, "postgres", own_school.tenants, writers=4, reconnect=True) as workload:
        workload.wait_commits(20)
        sidecar.backups.rename(away)
        sidecar.backups.write_text("no folder")
        workload.wait_commits(20)
        wait_for("serve to say that the store fails", lambda: "store" in sidecar.log(), 20, sidecar.log_tail)
        assert sidecar.run("flush", "--timeout", "1s").code == FAILED
        assert sidecar.run("status").json["state"], "status always answers"
        stop_within_10_s(own_cluster)
        own_cluster.start()
        workload.wait_commits(20)
        assert sidecar.serves(), sidecar.log_tail()
        sidecar.backups.unlink()
        away.rename(sidecar.backups)
        workload.wait_commits(20)
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, own_school)


def limit_files(sidecar: Sidecar, size: int) -> None:
    """No file of serve's may grow beyond this: what a full disk does, to this process alone."""
    resource.prlimit(sidecar.serve_pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("memory, rows, what", [("256MiB", 1_000, "segments"), ("64MiB", 100_000, "spilled rows")])
def test_a_full_disk_holds_the_archive_up_and_loses_nothing(cluster: Cluster, database: str, school: School,
                                                            new_sidecar: Callable[..., Sidecar], memory: str,
                                                            rows: int, what: str) -> None:
    """The log of serve stays small, so that it can still tell."""
    sidecar = new_sidecar(cluster, database, settings={"PGSTRATA_MEMORY": memory})
    sidecar.start()
    limit_files(sidecar, 256 << 10)
    # Texts that do not compress to nothing: every one differs.
    cluster.execute("INSERT INTO avisos SELECT 1000000 + i, 'rede-01', (SELECT string_agg(md5((i * 64 + k)::text), '')"
                    " FROM generate_series(1, 32) AS k) FROM generate_series(1, %s) AS i", (rows,), database)
    wait_for(f"serve to say that {what} do not fit", lambda: "File too large" in sidecar.log(), 40, sidecar.log_tail)
    commit_numbered(cluster, database, 0, 10)
    assert sidecar.run("flush", "--timeout", "1s").code == FAILED
    assert sidecar.serves(), sidecar.log_tail()
    limit_files(sidecar, resource.RLIM_INFINITY)
    commit_numbered(cluster, database, 10, 10)
    sidecar.ok("flush", "--timeout", "80s")
    assert_archive_equals_live(sidecar, school)
    assert_each_number_once(sidecar, 20)


# ---- PostgreSQL comes and goes ----

def test_a_fast_shutdown_of_postgresql_never_waits_for_an_idle_serve(own_cluster: Cluster, own_school: School,
                                                                     new_sidecar: Callable[..., Sidecar]) -> None:
    """And serve comes back by itself when the server does."""
    sidecar = new_sidecar(own_cluster, "postgres")
    sidecar.start()
    with Workload(own_cluster, "postgres", own_school.tenants, writers=2) as workload:
        workload.wait_commits(20)
    sidecar.flush()
    stop_within_10_s(own_cluster)
    assert sidecar.serves(), sidecar.log_tail()
    own_cluster.start()
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, own_school)


def test_a_fast_shutdown_of_postgresql_under_load_never_waits_for_serve(own_cluster: Cluster, own_school: School,
                                                                        new_sidecar: Callable[..., Sidecar]) -> None:
    sidecar = new_sidecar(own_cluster, "postgres")
    sidecar.start()
    with Workload(own_cluster, "postgres", own_school.tenants, writers=4, reconnect=True) as workload:
        workload.wait_commits(30)
        stop_within_10_s(own_cluster)
        assert sidecar.serves(), sidecar.log_tail()
        own_cluster.start()
        workload.wait_commits(30)
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, own_school)


def stop_within_10_s(cluster: Cluster) -> None:
    """pg_ctl gives up after these seconds, and then this raises."""
    cluster.pg_ctl("-m", "fast", "-t", "10", "stop")


def test_a_crash_of_postgresql_under_load_loses_nothing(own_cluster: Cluster, own_school: School,
                                                        new_sidecar: Callable[..., Sidecar]) -> None:
    own_cluster.restart(fsync="on", synchronous_commit="off")
    sidecar = new_sidecar(own_cluster, "postgres")
    sidecar.start()
    with Workload(own_cluster, "postgres", own_school.tenants, writers=4, reconnect=True) as workload:
        for _ in range(2):
            workload.wait_commits(30)
            own_cluster.restart("immediate")
        workload.wait_commits(30)
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, own_school)


# ---- what holds a base up ----

def test_a_base_names_whom_it_waits_for_and_does_not_hold_up_a_stop(serving: Sidecar, school: School) -> None:
    conn = serving.cluster.connect(serving.database, autocommit=False)
    try:
        with conn.cursor() as cur:
            cur.execute("SET application_name = 'long report'; SELECT pg_current_xact_id(), pg_backend_pid()")
            pid = cur.fetchone()[1]
        asked = serving.begin("base", "--timeout", "30s")
        blocker = wait_for("status to name the open transaction",
                           lambda: serving.status()["base_waits_for"], 20, serving.log_tail)[0]
        assert blocker["pid"] == pid and blocker["application"] == "long report", blocker
        assert blocker["user"] == "postgres" and blocker["open_seconds"] >= 0, blocker
        wait_for("the log to name it", lambda: f"process {pid} (long report, user postgres, open for" in serving.log(),
                 20, serving.log_tail)
        assert serving.terminate(10) == DONE, serving.log_tail()
        asked.kill()
        asked.communicate()
    finally:
        conn.close()
    assert serving.status()["base_waits_for"] == []

"""Two sidecars and one archive: one of them writes, the other waits, stops or is refused; production is never
the one that loses."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Callable, Iterator

import pytest

from lib.checks import assert_archive_equals_live
from lib.cluster import Cluster, lsn_number, run_as_server
from lib.proxy import CuttingProxy
from lib.school import School, create_school
from lib.sidecar import DONE, FAILED, REFUSED, Sidecar
from lib.wait import wait_for

NewSidecar = Callable[..., Sidecar]


def beside(new_sidecar: NewSidecar, first: Sidecar, cluster: Cluster | None = None) -> Sidecar:
    """A second sidecar for the same archive; perhaps of another server."""
    second = new_sidecar(cluster or first.cluster, first.database)
    second.environment["BACKUP_DIR"] = first.environment["BACKUP_DIR"]
    return second


def mark(sidecar: Sidecar, text: str) -> None:
    sidecar.cluster.execute("UPDATE escolas SET nome = nome || %s", (text,), sidecar.database)


def wait_until_it_waits(second: Sidecar) -> None:
    wait_for("the second serve to say that it waits", lambda: "slot_busy" in second.log(), 30, second.log_tail)


def wait_until_it_streams(sidecar: Sidecar) -> None:
    wait_for("serve to stream", lambda: " streaming " in sidecar.log(), 30, sidecar.log_tail)


def assert_goes_on(sidecar: Sidecar, school: School) -> None:
    """It streams, and the archive is whole: one chain, every row."""
    mark(sidecar, "+")
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, school)
    verified = sidecar.ok("verify")
    assert verified["valid"], verified


# ---- one after the other ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ends", "dies"])
def test_a_second_sidecar_waits_for_the_slot_and_takes_over(number: signal.Signals, serving: Sidecar, school: School,
                                                             new_sidecar: NewSidecar) -> None:
    second = beside(new_sidecar, serving)
    second.start_serve()
    wait_until_it_waits(second)
    mark(serving, "a")
    serving.flush()
    assert serving.serves() and second.serves(), second.log_tail()
    mark(serving, "b")
    serving.signal(number)
    assert serving.wait_exit() == (DONE if number == signal.SIGTERM else -number), serving.log_tail()
    assert_goes_on(second, school)


# ---- a stalled one wakes up late ----

def assert_fenced(sidecar: Sidecar) -> None:
    assert sidecar.wait_exit(30) == FAILED, sidecar.log_tail()
    said = sidecar.log_tail()
    assert "another writer has created" in said and "only one `pgstrata serve` may run" in said, said


def test_a_stalled_writer_that_wakes_late_fails_its_conditional_create(school: School, sidecar: Sidecar, folder: Path,
                                                                        new_sidecar: NewSidecar) -> None:
    """It still has changes to write, and nothing tells it that its connection is gone: only the archive can."""
    place = folder / "wire"
    place.mkdir()
    with CuttingProxy(place, sidecar.cluster.port, sidecar.cluster.folder) as wire:
        direct = sidecar.environment["PGSTRATA_DSN"]
        sidecar.start()
        assert sidecar.terminate() == DONE
        sidecar.environment |= {"PGSTRATA_DSN": direct.replace(str(sidecar.cluster.folder), str(place)),
                                "PGSTRATA_FLUSH_INTERVAL": "1s"}
        sidecar.start_serve()
        sidecar.wait_ready()
        sidecar.signal(signal.SIGSTOP)
        mark(sidecar, "of both")
        sent = sidecar.cluster.insert_lsn()
        wait_for("the server to have sent it", lambda: sidecar.cluster.query_value(
            "SELECT coalesce(bool_and(sent_lsn >= %s::pg_lsn), false) FROM pg_stat_replication", (sent,)), 30)
        wire.cut()

        second = beside(new_sidecar, sidecar)
        second.start_serve()
        wait_until_it_streams(second)
        second.flush()
        entries = sorted(sidecar.backups.glob(".pgstrata/*/log/*"))
        before = {entry: entry.read_bytes() for entry in entries}

        sidecar.signal(signal.SIGCONT)
        assert_fenced(sidecar)
        assert all(entry.read_bytes() == content for entry, content in before.items())
        assert_goes_on(second, school)


def test_a_stalled_writer_that_lost_its_connection_stops_too(serving: Sidecar, school: School,
                                                             new_sidecar: NewSidecar) -> None:
    """It would wait for the slot, to be told only then; the archive tells it at once."""
    serving.signal(signal.SIGSTOP)
    mark(serving, "late")
    serving.cluster.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s",
                          (serving.slot()["name"],))
    second = beside(new_sidecar, serving)
    second.start_serve()
    wait_until_it_streams(second)
    second.flush()
    serving.signal(signal.SIGCONT)
    assert_fenced(serving)
    assert_goes_on(second, school)


def test_a_server_that_is_gone_without_a_word_does_not_keep_serve_from_stopping(
        school: School, sidecar: Sidecar, folder: Path) -> None:
    """It waits for an answer that never comes."""
    place = folder / "wire"
    place.mkdir()
    with CuttingProxy(place, sidecar.cluster.port, sidecar.cluster.folder) as wire:
        sidecar.start()
        assert sidecar.terminate() == DONE
        direct = sidecar.environment["PGSTRATA_DSN"]
        sidecar.environment["PGSTRATA_DSN"] = direct.replace(str(sidecar.cluster.folder), str(place))
        sidecar.start_serve()
        sidecar.wait_ready()
        wire.cut()
        sidecar.signal(signal.SIGHUP)  # it looks at the catalog at once
        wait_for("a question that gets no answer", wire.query_lost.is_set, 30, sidecar.log_tail)
        assert sidecar.terminate(10) == DONE, sidecar.log_tail()


# ---- a copy of the server ----

@pytest.fixture
def original(new_cluster: Callable[..., Cluster]) -> Cluster:
    return new_cluster()


@pytest.fixture
def original_school(original: Cluster) -> School:
    conn = original.connect()
    try:
        return create_school(conn)
    finally:
        conn.close()


@pytest.fixture
def original_serving(original: Cluster, original_school: School, new_sidecar: NewSidecar) -> Sidecar:
    sidecar = new_sidecar(original, "postgres")
    sidecar.start()
    return sidecar


def copy_of(cluster: Cluster, folder: Path) -> Cluster:
    """The data folder with slot and all, of one moment, as a snapshot of the disk has it."""
    copied = Cluster(folder / "copy", cluster.settings)
    postmaster = cluster.pid()
    assert postmaster is not None
    family = [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        run_as_server(["cp", "-a", cluster.data, copied.data])
    finally:
        for pid in reversed(family):
            os.kill(pid, signal.SIGCONT)
    (copied.data / "postmaster.pid").unlink()
    return copied


@pytest.fixture
def clone(original_serving: Sidecar, folder: Path) -> Iterator[Cluster]:
    copied = copy_of(original_serving.cluster, folder)
    yield copied
    copied.remove()


def beat_again(sidecar: Sidecar) -> None:
    """Its next heartbeat, at its next start, in the archive."""
    assert sidecar.terminate() == DONE, sidecar.log_tail()
    before = heartbeat(sidecar.cluster)
    sidecar.start_serve()
    wait_for("the next heartbeat", lambda: heartbeat(sidecar.cluster) > before, 30, sidecar.log_tail)
    sidecar.flush()


def heartbeat(cluster: Cluster) -> int:
    return cluster.query_value("SELECT counter FROM pgstrata.heartbeat")


def epochs(sidecar: Sidecar) -> int:
    """How many writers the archive had."""
    return sum('"kind":"epoch"' in entry.read_text(encoding="utf-8").replace(" ", "")
               for entry in sidecar.backups.glob(".pgstrata/*/log/*"))


def assert_refused(second: Sidecar, first: Sidecar, reason: str) -> None:
    """Exit 4, with the reason and the way on; the archive has not even heard of it."""
    before = epochs(first)
    second.start_serve()
    assert second.wait_exit(30) == REFUSED, second.log_tail()
    said = second.log()
    assert f"a copy of the archived one: {reason}" in said and "--take-over" in said, said
    assert epochs(first) == before


def test_a_clone_is_refused_by_its_heartbeat(original_serving: Sidecar, original_school: School, clone: Cluster,
                                             new_sidecar: NewSidecar) -> None:
    beat_again(original_serving)
    clone.start()
    second = beside(new_sidecar, original_serving, clone)
    assert_refused(second, original_serving, "its heartbeat is behind")
    assert_goes_on(original_serving, original_school)


def test_a_clone_whose_wal_has_outgrown_the_archive_is_refused(original_serving: Sidecar, original_school: School,
                                                               clone: Cluster, new_sidecar: NewSidecar) -> None:
    """Positions alone would take it for the original that was left alone for a while."""
    beat_again(original_serving)
    clone.start()
    end = lsn_number(original_serving.status()["archived_lsn"])

    def outgrown() -> bool:
        clone.execute("SELECT pg_logical_emit_message(false, 'other', repeat('x', 1000000))")
        return lsn_number(clone.insert_lsn()) > end + (4 << 20)

    wait_for("the clone's WAL to outgrow the archive", outgrown)
    second = beside(new_sidecar, original_serving, clone)
    assert_refused(second, original_serving, "its heartbeat is behind")
    assert_goes_on(original_serving, original_school)


def test_a_clone_of_this_minute_is_refused_by_its_wal(original_serving: Sidecar, original_school: School,
                                                      clone: Cluster, new_sidecar: NewSidecar) -> None:
    """The original has not beaten since, so heartbeats agree; but the archive is ahead of the copy."""
    with original_serving.cluster.session() as cur:
        for _ in range(4):
            cur.execute("SELECT pg_logical_emit_message(true, 'other', repeat('x', 1000000))")
    mark(original_serving, "!")
    original_serving.flush()
    clone.start()
    assert heartbeat(clone) == heartbeat(original_serving.cluster)
    second = beside(new_sidecar, original_serving, clone)
    assert_refused(second, original_serving, "its WAL ends before")
    assert_goes_on(original_serving, original_school)


def test_a_clone_that_replaces_the_original_begins_an_era(original_serving: Sidecar, original_school: School,
                                                          clone: Cluster, new_sidecar: NewSidecar) -> None:
    beat_again(original_serving)
    original_serving.kill9()
    original_serving.cluster.stop("immediate")
    clone.start()
    second = beside(new_sidecar, original_serving, clone)
    assert_refused(second, original_serving, "its heartbeat is behind")
    second.start_serve("--take-over")
    assert_goes_on(second, original_school)
    items = second.ok("timeline", "-t", original_school.tenants[0])["items"]
    assert [item["text"] for item in items if item["kind"] == "era"] == ["era 2: a copy of the server took over"]

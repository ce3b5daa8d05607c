"""The archiver dies at each step of a flush, a base and a start-up, as by power loss; afterwards nothing is
lost and nothing comes twice."""

from __future__ import annotations

import pytest

from lib.checks import assert_archive_equals_live
from lib.school import School
from lib.sidecar import Sidecar
from lib.wait import wait_for
from lib.workload import Workload

pytestmark = pytest.mark.checked

SIGKILLED = -9
FLUSH = ("flush.begin", "flush.segment_written", "flush.before_entry", "flush.entry_appended", "flush.durable",
         "slot.confirmed")
BASE = ("base.slot", "base.segment_written", "base.copied", "base.entry_appended")
START = ("start.checked", "start.epoch", "start.position")


def die_at(sidecar: Sidecar, point: str, count: int) -> None:
    """Starts serve and waits until it has died there."""
    sidecar.environment["PGSTRATA_CRASH_AT"] = f"{point}:{count}"
    sidecar.start_serve()
    asked = None
    if point.startswith("base."):
        wait_for("serve to stream", lambda: sidecar.status()["state"] == "streaming", 30, sidecar.log_tail)
        asked = sidecar.begin("base", "--timeout", "60s")
    code = sidecar.wait_exit(60)
    if asked is not None:
        asked.kill()
        asked.communicate()
    assert code == SIGKILLED, f"{point}: serve ended with {code}\n{sidecar.log_tail()}"
    del sidecar.environment["PGSTRATA_CRASH_AT"]


def assert_whole(sidecar: Sidecar, school: School) -> None:
    sidecar.start_serve()
    sidecar.wait_ready()
    assert_archive_equals_live(sidecar, school)
    verified = sidecar.ok("verify")
    assert verified["valid"], verified


@pytest.mark.parametrize("points", [FLUSH, BASE, START], ids=["flush", "base", "start"])
def test_dying_at_every_step_loses_nothing(points: tuple[str, ...], serving: Sidecar, school: School) -> None:
    serving.environment["PGSTRATA_FLUSH_INTERVAL"] = "50ms"
    serving.kill9()
    with Workload(serving.cluster, serving.database, school.tenants, writers=3) as workload:
        for point in points:
            for count in (1, 2):
                if count > 1 and not point.startswith(("flush", "slot")):
                    continue  # a start-up and a base pass each of theirs once
                workload.wait_commits(3)
                die_at(serving, point, count)
    assert_whole(serving, school)


def test_dying_with_spilled_rows_leaves_nothing_of_them(serving: Sidecar, school: School) -> None:
    """Segments of a transaction that is too large for memory are written before its commit is known."""
    serving.kill9()
    serving.environment["PGSTRATA_MEMORY"] = "32MiB"
    serving.cluster.execute(
        "INSERT INTO escolas (tenant_id, nome, turno) SELECT 'rede-00', repeat('grande ' || i, 20), 'noite'"
        " FROM generate_series(1, 60000) i", database=serving.database)
    for count in (1, 2):
        die_at(serving, "flush.spilled", count)
    serving.cluster.execute("DELETE FROM escolas WHERE nome LIKE 'grande%'", database=serving.database)
    assert_whole(serving, school)


def test_an_entry_whose_answer_was_lost_is_our_own(serving: Sidecar, school: School) -> None:
    """It died between the entry and the confirmation: the stream comes again from the slot's position, and
    what the archive has already is passed over."""
    serving.kill9()
    before = serving.slot()["confirmed"]
    serving.cluster.execute("UPDATE escolas SET nome = nome || '!'", database=serving.database)
    die_at(serving, "flush.entry_appended", 1)
    assert serving.slot()["confirmed"] == before
    assert_whole(serving, school)

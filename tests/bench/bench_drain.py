"""drain: how fast a backlog of WAL goes through, against pg_recvlogical into /dev/null.

One slot is held while the load is written; every run gets its own copy of it, so all of them decode
the same WAL with the same publication and options. A run lasts from the start of the program to the
moment when the whole backlog is confirmed: for pgstrata that means durable in its archive (fsync on),
for pg_recvlogical only that it was read. The load ends with a flush barrier, as `pgstrata flush`
leaves it, so the end does not wait for the flush interval."""

import subprocess
import time

import measure
import tenants
from rig import BenchError, Sidecar, SlotWatch, running_cluster, stop_process, wait_for

ROWS = 3_000_000
ROWS_PER_TRANSACTION = 100
PAIRS = 3
DATABASE = "drain"
SLOT = "drain_source"
SECONDS_MAX = 600


def make_backlog(cluster, folder):
    """Returns (row changes, the WAL position to reach, the publication's name)."""
    cluster.sql("postgres", f"CREATE DATABASE {DATABASE}")
    cluster.sql(DATABASE, tenants.SCHEMA + tenants.insert_tenants(200)
                + tenants.change_procedure(tenants.evenly(200)))
    source = Sidecar(cluster, DATABASE, folder, SLOT)
    source.setup()
    publication = cluster.value(DATABASE, "SELECT pubname FROM pg_publication")
    transactions = max(100, int(ROWS * tenants.SCALE) // ROWS_PER_TRANSACTION)
    cluster.sql(DATABASE, "ALTER DATABASE drain SET synchronous_commit = off")  # the load is not measured
    rows = cluster.value(DATABASE, "CALL change(%s)", (transactions,))
    cluster.sql(DATABASE, "ALTER DATABASE drain RESET synchronous_commit")
    # Nobody archives yet, so this fails; its barrier stays in the WAL and ends the backlog.
    source.run("flush", "--timeout", "1s")
    end = cluster.wal_end()
    # Both programs learn that the end is reached from something that lies behind it.
    cluster.sql(DATABASE, "SELECT pg_logical_emit_message(true, 'bench', 'end'); CHECKPOINT")
    return rows, end, publication


def run_pgstrata(cluster, folder, slot, end):
    sidecar = Sidecar(cluster, DATABASE, folder, slot)
    watch = SlotWatch(cluster, slot)
    try:
        sidecar.setup()
        began = time.monotonic()
        pid = sidecar.start_serve("--no-initial-base")

        def drained():
            sidecar.check_alive()
            return watch.reached(end)

        wait_for("pgstrata to drain the slot", drained, SECONDS_MAX, sidecar.log_tail)
        seconds = time.monotonic() - began
        return seconds, measure.cpu_seconds(pid), watch.walsender_cpu_seconds
    finally:
        watch.close()
        sidecar.discard()


def run_peer(cluster, slot, end, publication):
    watch = SlotWatch(cluster, slot)
    peer = None
    try:
        began = time.monotonic()
        peer = cluster.program("pg_recvlogical", "-d", cluster.dsn(DATABASE), "--slot", slot, "--start", "--no-loop",
                               "-f", "/dev/null", "--endpos", end, "-o", "proto_version=1",
                               "-o", f"publication_names={publication}", "-o", "messages=true",
                               stderr=subprocess.PIPE, text=True)
        cpu = 0.0

        def ended():
            nonlocal cpu
            # A process that has ended but was not waited for still answers with its final figures.
            cpu = measure.cpu_seconds(peer.pid) or cpu
            watch.reached(end)
            return peer.poll() is not None

        wait_for("pg_recvlogical to drain the slot", ended, SECONDS_MAX)
        seconds = time.monotonic() - began
        if peer.returncode != 0:
            raise BenchError(f"pg_recvlogical failed: {peer.stderr.read()}")
        return seconds, cpu, watch.walsender_cpu_seconds
    finally:
        if peer is not None:
            stop_process(peer)
            peer.stderr.close()
        watch.close()


def run(folder, say):
    ours, peers = [], []
    with running_cluster(folder, "drain") as cluster:
        rows, end, publication = make_backlog(cluster, folder)
        say(f"{rows:,} row changes in transactions of about {ROWS_PER_TRANSACTION}")
        for pair in range(PAIRS):
            for runs in (peers, ours):
                slot = f"drain_{'ours' if runs is ours else 'peer'}_{pair}"
                cluster.sql(DATABASE, "SELECT pg_copy_logical_replication_slot(%s, %s)", (SLOT, slot))
                took = (run_pgstrata(cluster, folder, slot, end) if runs is ours
                        else run_peer(cluster, slot, end, publication))
                runs.append(took)
                say(f"{'pgstrata' if runs is ours else 'pg_recvlogical'}: {took[0]:.2f} s, "
                    f"{rows / took[0]:,.0f} rows/s, client CPU {took[1]:.2f} s, walsender CPU {took[2]:.2f} s")
                cluster.sql(DATABASE, "SELECT pg_drop_replication_slot(%s)", (slot,))
    note = f"{rows:,} row changes; peer: pg_recvlogical to /dev/null"
    return [
        measure.result("drain", [rows / r[0] for r in ours], [rows / r[0] for r in peers], "rows/s", False, note),
        measure.result("drain.cpu", [r[1] for r in ours], [r[1] for r in peers], "CPU s", True,
                       "of the client; pgstrata decodes, sorts, compresses and writes, the peer throws away"),
        measure.result("drain.walsender_cpu", [r[2] for r in ours], [r[2] for r in peers], "CPU s", True),
    ]

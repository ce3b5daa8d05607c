"""overhead: what the database's own clients notice. pgbench throughput with the sidecar attached,
against pg_recvlogical attached with the same publication and options, in turns; and, for
orientation, with nothing attached."""

import re
import subprocess

import measure
import tenants
from rig import BenchError, Sidecar, run_as_server, running_cluster, stop_process, wait_for

DATABASE = "overhead"
SLOT = "overhead"
PEER_SLOT = "overhead_peer"
ROWS = 200_000  # in each table
SECONDS = 20
PAIRS = 3
CLIENTS = 4
SCRIPT = f"""\\set tenant random(1, 200)
\\set id random(1, {ROWS})
BEGIN;
SELECT total FROM orders WHERE id = :id;
UPDATE orders SET status = 'paid', total = total + 1, changed_at = now() WHERE id = :id;
UPDATE customers SET active = NOT active, changed_at = now() WHERE id = :id;
INSERT INTO items (id, tenant_id, order_id, sku, quantity, price)
    VALUES (nextval('next_item'), :tenant, :id, md5(:id::text), 1, 9.90);
INSERT INTO notes (id, tenant_id, author, body, changed_at)
    VALUES (nextval('next_item'), :tenant, 'pgbench', md5(:id::text), now());
COMMIT;
"""


def pgbench(cluster, script, seconds):
    text = run_as_server([cluster.bindir / "pgbench", "-n", "-M", "prepared", "-f", script, "-c", CLIENTS, "-j", 2,
                          "-T", seconds, cluster.dsn(DATABASE)])
    return float(re.search(r"^tps = ([0-9.]+)", text, re.MULTILINE).group(1))


def with_sidecar(cluster, sidecar, script, seconds):
    """Attached and caught up first: a backlog of the other's turn must not count."""
    pid = sidecar.start_serve()
    try:
        sidecar.wait_ready()
        sidecar.flush()
        cpu = measure.cpu_seconds(pid)
        tps = pgbench(cluster, script, seconds)
        sidecar.check_alive()
        return tps, measure.cpu_seconds(pid) - cpu
    finally:
        sidecar.stop()


def with_peer(cluster, publication, script, seconds):
    cluster.sql(DATABASE, "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (PEER_SLOT,))
    peer = cluster.program("pg_recvlogical", "-d", cluster.dsn(DATABASE), "--slot", PEER_SLOT, "--start", "--no-loop",
                           "-f", "/dev/null", "-o", "proto_version=1", "-o", f"publication_names={publication}",
                           "-o", "messages=true", stderr=subprocess.DEVNULL)
    try:
        wait_for("pg_recvlogical to attach", lambda: cluster.value(
            "postgres", "SELECT active FROM pg_replication_slots WHERE slot_name = %s", (PEER_SLOT,)))
        cpu = measure.cpu_seconds(peer.pid)
        tps = pgbench(cluster, script, seconds)
        if peer.poll() is not None:
            raise BenchError("pg_recvlogical ended on its own")
        return tps, measure.cpu_seconds(peer.pid) - cpu
    finally:
        stop_process(peer)
        wait_for("pg_recvlogical to detach", lambda: not cluster.value(
            "postgres", "SELECT active FROM pg_replication_slots WHERE slot_name = %s", (PEER_SLOT,)))
        cluster.sql(DATABASE, "SELECT pg_drop_replication_slot(%s)", (PEER_SLOT,))


def run(folder, say):
    seconds = max(2, round(SECONDS * min(1.0, tenants.SCALE)))
    ours, peers = [], []
    with running_cluster(folder, "overhead") as cluster:
        cluster.sql("postgres", f"CREATE DATABASE {DATABASE}")
        cluster.sql(DATABASE, tenants.SCHEMA + tenants.insert_tenants(200)
                    + "".join(tenants.insert_rows(table, 1, ROWS, tenants.evenly(200)) for table in tenants.TABLES)
                    + tenants.TENANT_INDEXES + f"CREATE SEQUENCE next_item START {ROWS + 1}; ANALYZE; CHECKPOINT")
        script = cluster.folder / "workload.sql"
        script.write_text(SCRIPT, encoding="utf-8")
        pgbench(cluster, script, max(2, seconds // 4))  # warms the caches
        alone = pgbench(cluster, script, seconds)
        say(f"nothing attached: {alone:,.0f} transactions/s")
        sidecar = Sidecar(cluster, DATABASE, folder, SLOT)
        try:
            sidecar.setup()
            publication = cluster.value(DATABASE, "SELECT pubname FROM pg_publication")
            for _ in range(PAIRS):
                peers.append(with_peer(cluster, publication, script, seconds))
                say(f"pg_recvlogical: {peers[-1][0]:,.0f} transactions/s, client CPU {peers[-1][1]:.1f} s")
                ours.append(with_sidecar(cluster, sidecar, script, seconds))
                say(f"pgstrata: {ours[-1][0]:,.0f} transactions/s, client CPU {ours[-1][1]:.1f} s")
        finally:
            sidecar.discard()
    return [measure.result("overhead", [run[0] for run in ours], [run[0] for run in peers], "transactions/s", False,
                           f"pgbench, {CLIENTS} clients, {seconds} s a run; peer: pg_recvlogical to /dev/null;"
                           f" nothing attached: {alone:,.0f}")]

"""memory: the most memory serve ever held (VmHWM) while one transaction of 5 million rows went through,
against the bound of DESIGN 4.5: budget + 64 MiB."""

import measure
import tenants
from rig import Sidecar, SlotWatch, running_cluster, wait_for

ROWS = 5_000_000
DATABASE = "memory"
SLOT = "memory"
BUDGET_MIB = 256
BOUND_MIB = BUDGET_MIB + 64
SECONDS_MAX = 600
MIB = 1024 * 1024


def run(folder, say):
    rows = max(10_000, int(ROWS * tenants.SCALE))
    with running_cluster(folder, "memory") as cluster:
        cluster.sql("postgres", f"CREATE DATABASE {DATABASE}")
        cluster.sql(DATABASE, tenants.SCHEMA + tenants.insert_tenants(200))
        sidecar = Sidecar(cluster, DATABASE, folder, SLOT, PGSTRATA_MEMORY=f"{BUDGET_MIB}MiB")
        watch = SlotWatch(cluster, SLOT)
        try:
            sidecar.start()
            pid = sidecar.serve_pid
            cluster.sql(DATABASE, tenants.insert_rows("orders", 1, rows, tenants.evenly(200)))
            end = cluster.wal_end()
            say(f"{rows:,} rows written in one transaction")

            def through():
                sidecar.check_alive()
                return watch.reached(end)

            wait_for("the transaction to be archived", through, SECONDS_MAX, sidecar.log_tail, poll_s=0.1)
            peak = measure.peak_memory_bytes(pid) / MIB
            say(f"peak {peak:.0f} MiB, {measure.cpu_seconds(pid):.1f} s of CPU")
        finally:
            watch.close()
            sidecar.discard()
    return [measure.result("memory", [peak], BOUND_MIB, "MiB", True,
                           f"one transaction of {rows:,} rows, PGSTRATA_MEMORY={BUDGET_MIB}MiB;"
                           " peer: the promised bound, budget + 64 MiB")]

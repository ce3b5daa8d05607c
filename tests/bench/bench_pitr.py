"""pitr: one median tenant of a 2 GB database with 200 tenants back to a moment 1.4 GB of WAL after the
base, against the way operators have today with pgBackRest:

    restore the cluster into a scratch folder with a time target, recover, export the tenant's rows,
    replace them in the live database in one transaction.

Both go to the same moment after the same accident, and both must give back the very rows; base and
backup are taken at the same point, and all WAL is archived before the clock starts. pgBackRest gets
two processes, asynchronous WAL fetching and lz4, its quick settings.

There are two accidents, since what a restore costs follows the rows that differ: a wrong DELETE of
every fourth item, and the same with a wrong UPDATE of all orders, half of the tenant's rows together.
The accident is repeated before each run."""

import time

import measure
import tenants
from rig import BenchError, Cluster, Sidecar, run_as_server, running_cluster, wait_for

DATABASE = "pitr"
SLOT = "pitr"
TENANTS = 200
# Rows by table, for 2 GB with indexes.
ROWS = {"customers": 900_000, "orders": 4_200_000, "items": 5_600_000, "notes": 1_000_000}
WAL_BYTES = 1_400_000_000
TRANSACTIONS_PER_CALL = 500
OUR_RUNS = 5
PEER_RUNS = 1
WRONG_DELETE = "DELETE FROM items WHERE tenant_id = %s AND id %% 4 = 0"
WRONG_UPDATE = "UPDATE orders SET status = 'lost', total = 0 WHERE tenant_id = %s"
ACCIDENTS = {"pitr": (WRONG_DELETE,), "pitr.half": (WRONG_DELETE, WRONG_UPDATE)}
RECOVERY_SECONDS_MAX = 900


class PgBackRest:
    """The repository, the commands, and the configuration they share, in one folder."""

    def __init__(self, cluster):
        home = cluster.make_folder("pgbackrest")
        for name in ("repo", "log", "lock", "spool"):
            cluster.make_folder("pgbackrest", name)
        self.conf = cluster.folder / "pgbackrest.conf"
        self.conf.write_text(
            "[global]\n"
            f"repo1-path={home}/repo\nlog-path={home}/log\nlock-path={home}/lock\nspool-path={home}/spool\n"
            "compress-type=lz4\nprocess-max=2\nstart-fast=y\narchive-async=y\n"
            "repo1-retention-full=2\nlog-level-console=warn\n"
            "[bench]\n"
            f"pg1-path={cluster.data}\npg1-port={cluster.port}\npg1-socket-path={cluster.folder}\n"
            "pg1-user=postgres\n", encoding="utf-8")

    def settings(self):
        return {"archive_mode": "on",
                "archive_command": f"pgbackrest --config={self.conf} --stanza=bench archive-push %p"}

    def run(self, *words):
        return run_as_server(["/usr/bin/pgbackrest", f"--config={self.conf}", "--stanza=bench", *words])


def fill(cluster):
    cluster.sql("postgres", f"CREATE DATABASE {DATABASE}")
    first_new = max(ROWS.values()) + 1
    cluster.sql(DATABASE, tenants.SCHEMA + tenants.insert_tenants(TENANTS) + tenants.change_procedure(
        tenants.unevenly(TENANTS), tenants.LONG_NOTE, scattered=1, first_row=first_new))
    loads = []
    for table, rows in ROWS.items():
        text = tenants.insert_rows(table, 1, max(1000, int(rows * tenants.SCALE)), tenants.unevenly(TENANTS),
                                   tenants.LONG_NOTE)
        loads.append(cluster.program("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", text,
                                     "-c", f"CREATE INDEX ON {table} (tenant_id)", cluster.dsn(DATABASE)))
    for load in loads:
        if load.wait() != 0:
            raise BenchError("loading the database failed")
    cluster.sql(DATABASE, tenants.TENANT_KEYS)
    cluster.sql(DATABASE, "VACUUM ANALYZE")
    cluster.sql(DATABASE, "CHECKPOINT")


def median_tenant(cluster):
    counts = cluster.sql(DATABASE, " UNION ALL ".join(
        f"SELECT tenant_id, count(*) FROM {table} GROUP BY 1" for table in tenants.TABLES))
    totals = {}
    for tenant, count in counts:
        totals[tenant] = totals.get(tenant, 0) + count
    by_size = sorted(totals, key=lambda tenant: (totals[tenant], tenant))
    return by_size[len(by_size) // 2]


def change(cluster, wal_bytes):
    """Works until that much WAL was written; returns the number of row changes."""
    rows = 0
    conn = cluster.connect(DATABASE)
    try:
        with conn.cursor() as cur:
            cur.execute("SET synchronous_commit = off")
            cur.execute("SELECT pg_current_wal_insert_lsn()")
            begin = cur.fetchone()[0]
            while True:
                cur.execute("CALL change(%s)", (TRANSACTIONS_PER_CALL,))
                rows += cur.fetchone()[0]
                cur.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (begin,))
                if cur.fetchone()[0] >= wal_bytes:
                    return rows
    finally:
        conn.close()


def fingerprint(cluster, database, tenant):
    return [cluster.sql(database, f"SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM {table} AS r"
                                  " WHERE tenant_id = %s", (tenant,))[0] for table in tenants.TABLES]


def accident(cluster, name, tenant):
    for statement in ACCIDENTS[name]:
        cluster.sql(DATABASE, statement, (tenant,))


def moment(cluster):
    """A time that no commit shares: a commit before it, none at it, the next well after it."""
    def pause():
        end = time.monotonic() + 0.2
        wait_for("the clock", lambda: time.monotonic() > end)
    pause()
    answer = cluster.value(DATABASE, "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC',"
                                     " 'YYYY-MM-DD HH24:MI:SS.US') || '+00'")
    pause()
    return answer


def run_pgstrata(sidecar, tenant, target):
    began = time.monotonic()
    answer = sidecar.pitr(str(tenant), "--target-time", target)
    return time.monotonic() - began, answer


def run_peer(cluster, backrest, tenant, target, say, name):
    """The seconds of each step."""
    scratch = Cluster(cluster.folder.parent / "scratch")
    steps = {}
    clock = time.monotonic()

    def done(step):
        nonlocal clock
        now = time.monotonic()
        steps[step] = now - clock
        clock = now

    try:
        scratch.make_folder("data")
        backrest.run(f"--pg1-path={scratch.data}", "--type=time", f"--target={target}", "--target-action=promote",
                     "--archive-mode=off", "restore")
        done("restore")
        scratch.start()
        wait_for("the recovery", lambda: not scratch.value("postgres", "SELECT pg_is_in_recovery()"),
                 RECOVERY_SECONDS_MAX)
        done("recover")
        copies = []
        for table in tenants.TABLES:
            path = scratch.folder / f"{table}.copy"
            run_as_server([scratch.bindir / "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c",
                           f"\\copy (SELECT * FROM {table} WHERE tenant_id = {tenant}) TO '{path}'",
                           scratch.dsn(DATABASE)])
            copies.append((table, path))
        done("export")
        words = ["-c", "BEGIN"]
        for table, path in reversed(copies):
            words += ["-c", f"DELETE FROM {table} WHERE tenant_id = {tenant}"]
        for table, path in copies:
            words += ["-c", f"\\copy {table} FROM '{path}'"]
        run_as_server([cluster.bindir / "psql", "-qX", "-v", "ON_ERROR_STOP=1", *words, "-c", "COMMIT",
                       cluster.dsn(DATABASE)])
        done("load")
        say(f"{name}: pgBackRest way: " + ", ".join(f"{step} {seconds:.1f} s" for step, seconds in steps.items()))
        return sum(steps.values())
    finally:
        scratch.remove()


def run(folder, say):
    with running_cluster(folder, "pitr") as cluster:
        backrest = PgBackRest(cluster)
        fill(cluster)
        # Archiving begins here: no backup needs the WAL of the load itself.
        backrest.run("stanza-create")
        cluster.restart(**backrest.settings())
        backrest.run("check")
        tenant = median_tenant(cluster)
        size = cluster.value(DATABASE, "SELECT pg_database_size(current_database())")
        say(f"{size / 1e9:.2f} GB, {TENANTS} tenants, median tenant {tenant}: "
            f"{sum(count for count, _ in fingerprint(cluster, DATABASE, tenant)):,} rows")
        sidecar = Sidecar(cluster, DATABASE, folder, SLOT)
        try:
            sidecar.setup()
            began = time.monotonic()
            sidecar.start_serve()
            sidecar.wait_ready(600)
            say(f"base of pgstrata: {time.monotonic() - began:.1f} s")
            began = time.monotonic()
            backrest.run("--type=full", "backup")
            say(f"full backup of pgBackRest: {time.monotonic() - began:.1f} s")
            wal_bytes = int(WAL_BYTES * tenants.SCALE)
            rows = change(cluster, wal_bytes)
            target = moment(cluster)
            before = fingerprint(cluster, DATABASE, tenant)
            say(f"{wal_bytes / 1e9:.2f} GB of WAL with {rows:,} row changes since")
            ours = {name: [] for name in ACCIDENTS}
            changes = {}
            for name in OUR_RUNS * list(ACCIDENTS):
                accident(cluster, name, tenant)
                sidecar.flush(300)
                seconds, answer = run_pgstrata(sidecar, tenant, target)
                if fingerprint(cluster, DATABASE, tenant) != before:
                    raise BenchError("pgstrata did not give back the tenant as it was")
                ours[name].append(seconds)
                changes[name] = answer["inserted"] + answer["updated"]
                say(f"{name}: pgstrata: {seconds:.3f} s ({answer['method']}, {answer['inserted']:,} inserted, "
                    f"{answer['updated']:,} updated, {answer['bytes_read']:,} bytes read)")
            sidecar.stop()
            peers = {name: [] for name in ACCIDENTS}
            for name in PEER_RUNS * list(ACCIDENTS):
                accident(cluster, name, tenant)
                # All WAL is in the repository before the clock starts.
                cluster.sql("postgres", "SELECT pg_switch_wal()")
                backrest.run("check")
                peers[name].append(run_peer(cluster, backrest, tenant, target, say, name))
                if fingerprint(cluster, DATABASE, tenant) != before:
                    raise BenchError("the pgBackRest way did not give back the tenant as it was")
        finally:
            sidecar.discard()
    return [measure.result(name, ours[name], peers[name], "s", True,
                           f"median tenant of {size / 1e9:.1f} GB, {wal_bytes / 1e9:.1f} GB of WAL after the base"
                           f" ({rows:,} row changes), {changes[name]:,} rows put back;"
                           " peer: pgBackRest restore, recovery, export, load") for name in ACCIDENTS]

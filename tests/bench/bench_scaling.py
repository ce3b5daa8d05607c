"""scaling: what a tenant's pitr reads of the archive, as the number of its neighbours grows.

equal    the same tenant among 10, 100 and 1,000 tenants, and the same total volume of changes: the
         others only divide it differently. What is read should not grow (ratio within 1.3).
growing  every tenant changes as much as the measured one, so that the volume grows with their
         number, and 20 % of the changes are deletes. Deletes name only the key, so they go to a run
         that all tenants share. Reported without a bound.

The archive is flushed after each of ROUNDS rounds and at no other time, so that every run has the
same number of segments; the target lies in the middle."""

import measure
import tenants
from rig import BenchError, Sidecar, running_cluster

COUNTS = (10, 100, 1000)
ROUNDS = 10
MEASURED = 1  # the tenant that goes back
OWN_ROWS = 2_000
OWN_CHANGES = 200  # a round
EQUAL_ROWS = 200_000  # of all others together
EQUAL_CHANGES = 40_000  # a round, of all others together
GROWING_ROWS = 500  # of each other tenant
EQUAL_DELETE_PERCENT = 10
GROWING_DELETE_PERCENT = 20


def load(count, rows):
    """Ids run through all tenants in turn, as one sequence gives them; the measured tenant's rows lie
    among the others' at equal distances."""
    step = max(1, rows // OWN_ROWS)
    tenant = f"CASE WHEN i % {step} = 0 THEN {MEASURED} ELSE 2 + i % {count - 1} END"
    return tenants.insert_rows("orders", 1, rows + OWN_ROWS, tenant)


def change_round(number, others_changes, delete_percent):
    """Updates, deletes and inserts, for the measured tenant and for all others: one in ten rows of what
    is changed is new, so that tables neither grow nor shrink much."""
    statements = []
    for which, changes in ((f"tenant_id = {MEASURED}", OWN_CHANGES), (f"tenant_id <> {MEASURED}", others_changes)):
        deletes = changes * delete_percent // 100
        inserts = changes // 10
        updates = changes - deletes - inserts
        picked = f"SELECT id FROM orders WHERE {which} ORDER BY hashint8(id + {number}), id"
        statements += [
            f"UPDATE orders SET {tenants.UPDATES['orders']} WHERE id IN ({picked} LIMIT {updates})",
            f"DELETE FROM orders WHERE id IN ({picked} OFFSET {updates} LIMIT {deletes})",
            "INSERT INTO orders SELECT nextval('next_row'), tenant_id, customer_id, status, total, reference,"
            f" changed_at FROM (SELECT * FROM orders WHERE {which} ORDER BY hashint8(id) LIMIT {inserts}) AS o",
        ]
    return statements


def fingerprint(cluster, database):
    return cluster.sql(database, "SELECT count(*), md5(string_agg(r::text, '|' ORDER BY id)) FROM orders AS r"
                                 " WHERE tenant_id = %s", (MEASURED,))


def measure_tenant(cluster, folder, name, count, rows, others_changes, delete_percent, say):
    cluster.sql("postgres", f"CREATE DATABASE {name}")
    cluster.sql(name, tenants.SCHEMA + tenants.insert_tenants(count) + load(count, rows) + tenants.TENANT_INDEXES
                + f"CREATE SEQUENCE next_row START {rows + OWN_ROWS + 1}; ANALYZE")
    sidecar = Sidecar(cluster, name, folder, name, PGSTRATA_FLUSH_INTERVAL="1h")
    try:
        sidecar.start()
        for number in range(ROUNDS):
            for statement in change_round(number, others_changes, delete_percent):
                cluster.sql(name, statement)
            sidecar.flush()
            if number + 1 == ROUNDS // 2:
                target = cluster.wal_end()
                before = fingerprint(cluster, name)
        answer = sidecar.pitr(str(MEASURED), "--target-lsn", target)
        if fingerprint(cluster, name) != before:
            raise BenchError(f"pgstrata did not give back the tenant as it was ({name})")
        say(f"{name}: {count:,} tenants, {(OWN_CHANGES + others_changes) * ROUNDS:,} changes: "
            f"{answer['bytes_read']:,} bytes read, {answer['duration_ms']} ms, {answer['method']}")
        return answer["bytes_read"]
    finally:
        sidecar.discard()
        cluster.drop_database(name)


def run(folder, say):
    equal, growing = {}, {}
    with running_cluster(folder, "scaling") as cluster:
        for count in COUNTS:
            equal[count] = measure_tenant(
                cluster, folder, f"equal_{count}", count, int(EQUAL_ROWS * tenants.SCALE),
                int(EQUAL_CHANGES * tenants.SCALE), EQUAL_DELETE_PERCENT, say)
        for count in COUNTS:
            others = count - 1
            growing[count] = measure_tenant(
                cluster, folder, f"growing_{count}", count, int(GROWING_ROWS * tenants.SCALE) * others + 10 * OWN_ROWS,
                int(OWN_CHANGES * tenants.SCALE) * others, GROWING_DELETE_PERCENT, say)
    few, many = COUNTS[0], COUNTS[-1]
    return [
        measure.result(f"scaling.{name}", [volumes[many]], volumes[few], "bytes read", True,
                       ", ".join(f"{count:,} tenants: {volumes[count]:,}" for count in COUNTS)
                       + f"; peer: the same with {few} tenants; {remark}")
        for name, volumes, remark in (("equal", equal, "flat is 0.77 or more"), ("growing", growing, "no bound"))
    ]

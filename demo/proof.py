"""The proofs, made by PostgreSQL itself and not by pgstrata.

- `checksums`: SHA-256 of a tenant's rows, every column of them, in key order.
- `rows_written_by`: whose rows carry a transaction's id in xmin.
- `Referee`: a logical slot of its own, whose decoding tells what a transaction changed, deletes too.
"""

import re

TABLES = ("tenants", "escolas", "alunos", "produtos", "matriculas")
BOOKKEEPING = re.compile(r"^(pgstrata\.|public\.tenant_backup)")
CHANGE = re.compile(r"^table (\S+): (INSERT|UPDATE|DELETE): (.*)$", re.DOTALL)


def tenant_column(table):
    return "id" if table == "tenants" else "tenant_id"


def checksums(conn, tenant):
    """{table: (rows, checksum)} of one tenant."""
    answer = {}
    with conn, conn.cursor() as cur:
        for table in TABLES:
            cur.execute(
                "SELECT count(*), encode(sha256(convert_to(coalesce(string_agg(r::text, E'\\n' ORDER BY id), ''),"
                f" 'UTF8')), 'hex') FROM {table} AS r WHERE {tenant_column(table)} = %s", (tenant,))
            answer[table] = cur.fetchone()
    return answer


def keys(conn, tenant):
    """{table: set of ids} of one tenant."""
    answer = {}
    with conn, conn.cursor() as cur:
        for table in TABLES:
            cur.execute(f"SELECT id::text FROM {table} WHERE {tenant_column(table)} = %s", (tenant,))
            answer[table] = {row[0] for row in cur}
    return answer


def writers(conn, tenant, table):
    """The transactions that wrote the tenant's rows of this table as they are now."""
    with conn, conn.cursor() as cur:
        cur.execute(f"SELECT DISTINCT xmin::text::bigint FROM {table} WHERE {tenant_column(table)} = %s", (tenant,))
        return [row[0] for row in cur]


def rows_written_by(conn, tenant, xid):
    """(rows of this tenant, rows of all others) whose present version that transaction wrote."""
    own = others = 0
    with conn, conn.cursor() as cur:
        for table in TABLES:
            cur.execute(
                f"SELECT count(*) FILTER (WHERE {tenant_column(table)} = %s), count(*) FROM {table}"
                " WHERE xmin::text::bigint = %s", (tenant, xid))
            mine, everyone = cur.fetchone()
            own += mine
            others += everyone - mine
    return own, others


class Referee:
    SLOT = "demo_referee"

    def __init__(self, conn):
        self._conn = conn
        with conn, conn.cursor() as cur:
            cur.execute("SELECT pg_create_logical_replication_slot(%s, 'test_decoding')", (self.SLOT,))

    def verdict(self, tenant, xid, ids):
        """(changes to this tenant, changes to anything else) of one transaction.

        A deleted row shows only its key, so `ids` says which keys are the tenant's."""
        with self._conn, self._conn.cursor() as cur:
            cur.execute("SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL)"
                        " WHERE xid::text::bigint = %s", (self.SLOT, xid))
            changes = [match.groups() for match in (CHANGE.match(row[0]) for row in cur) if match]
            cur.execute("SELECT pg_drop_replication_slot(%s)", (self.SLOT,))
        own, foreign = 0, []
        for table, op, row in changes:
            if BOOKKEEPING.match(table):
                continue  # pgstrata's own account of the restore
            if self._is_of(tenant, table.removeprefix("public."), op, row, ids):
                own += 1
            else:
                foreign.append(f"{op} {table} {row}")
        return own, foreign

    @staticmethod
    def _is_of(tenant, table, op, row, ids):
        if op == "DELETE":
            key = re.match(r"id\[\w+\]:'?([^' ]+)", row)
            return bool(key) and key.group(1) in ids.get(table, ())
        column = tenant_column(table)
        return re.search(rf"(?:^|\s){column}\[text\]:'{re.escape(tenant)}'", row) is not None

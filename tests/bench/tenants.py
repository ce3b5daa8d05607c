"""The benches' database: four tables with a tenant column, rows of about 100 bytes, and the SQL that
fills them. Everything runs inside the server, so that making the load costs little."""

import os

SCALE = float(os.environ.get("BENCH_SCALE", "1"))

SCHEMA = """
CREATE TABLE tenants (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE customers (
    id bigint PRIMARY KEY, tenant_id bigint NOT NULL, name text NOT NULL, email text NOT NULL,
    active boolean NOT NULL, changed_at timestamptz NOT NULL);
CREATE TABLE orders (
    id bigint PRIMARY KEY, tenant_id bigint NOT NULL, customer_id bigint NOT NULL, status text NOT NULL,
    total numeric(12, 2) NOT NULL, reference text NOT NULL, changed_at timestamptz NOT NULL);
CREATE TABLE items (
    id bigint PRIMARY KEY, tenant_id bigint NOT NULL, order_id bigint NOT NULL, sku text NOT NULL,
    quantity integer NOT NULL, price numeric(10, 2) NOT NULL, remark text);
CREATE TABLE notes (
    id bigint PRIMARY KEY, tenant_id bigint NOT NULL, author text NOT NULL, body text NOT NULL,
    changed_at timestamptz NOT NULL);
"""
TABLES = ("customers", "orders", "items", "notes")
TENANT_INDEXES = "".join(f"CREATE INDEX ON {table} (tenant_id);" for table in TABLES)
TENANT_KEYS = "".join(f"ALTER TABLE {table} ADD FOREIGN KEY (tenant_id) REFERENCES tenants;" for table in TABLES)

# What the columns after id and tenant_id hold in row number i. The texts differ from row to row, or
# compression would have nothing to do.
COLUMNS = {
    "customers": "'Customer ' || i, md5(i::text) || '@example.org', i % 7 > 0, clock_timestamp()",
    "orders": "i / 2, (ARRAY['new', 'paid', 'sent', 'done'])[1 + i % 4], (i * 37 % 100000) / 100.0,"
              " md5(i::text), clock_timestamp()",
    "items": "i / 3, 'sku-' || md5((i % 50000)::text), (i % 9 + 1)::integer, (i * 13 % 90000) / 100.0,"
             " CASE WHEN i % 3 > 0 THEN 'remark ' || i END",
    "notes": "'author ' || i % 40, {body}, clock_timestamp()",
}
UPDATES = {
    "customers": "active = NOT active, changed_at = clock_timestamp()",
    "orders": "status = 'changed', total = total + 1, changed_at = clock_timestamp()",
    "items": "quantity = quantity + 1, price = price + 0.01",
    "notes": "body = reverse(body), changed_at = clock_timestamp()",
}
SHORT_NOTE = "md5(i::text) || ' ' || md5((i + 1)::text)"
LONG_NOTE = " || ".join(f"md5((i + {n})::text)" for n in range(12))


def evenly(tenants):
    """Row i belongs to the next tenant in turn (an expression over i)."""
    return f"1 + i % {tenants}"


def unevenly(tenants):
    """A few large tenants, many small ones: the share of tenant t falls with the root of t, so that
    the largest of 200 holds 7 % of all rows and the median one 0.35 %. The multiplier is Knuth's."""
    return f"1 + floor({tenants} * power((i * 2654435761 % 4294967296) / 4294967296.0::float8, 2))::bigint"


def insert_tenants(count):
    return f"INSERT INTO tenants SELECT i, 'tenant ' || i FROM generate_series(1, {count}) AS i;"


def insert_rows(table, first, last, tenant, body=SHORT_NOTE):
    """Inserts rows first..last (numbers, or names of plpgsql variables)."""
    return (f"INSERT INTO {table} SELECT i, {tenant}, {COLUMNS[table].format(body=body)}"
            f" FROM generate_series(({first})::bigint, ({last})::bigint) AS i;")


def change_procedure(tenant, body=SHORT_NOTE, inserts=60, updates=30, deletes=10, scattered=0, first_row=0):
    """CREATE PROCEDURE change(transactions, OUT done): short transactions, each on one table in turn.

    New rows come in stretches of `inserts` keys from `first_row` on; a transaction updates rows of a
    stretch some 40 transactions old, deletes from one of 80 transactions ago (rows that were updated
    before), and updates `scattered` rows anywhere below its own. Stretch s is in table s mod 4."""
    tables = len(TABLES)
    branches = "\n".join(f"""
        IF stretch % {tables} = {n} THEN
            {insert_rows(table, 'first_new', f'first_new + {inserts} - 1', tenant, body)}
            done := done + {inserts};
            UPDATE {table} SET {UPDATES[table]}
            WHERE id >= first_new - 40 * {inserts} AND id < first_new - 40 * {inserts} + {updates};
            GET DIAGNOSTICS hit = ROW_COUNT;
            done := done + hit;
            FOR round IN 1..{scattered} LOOP
                anywhere := floor(random() * first_new)::bigint;  -- in place it would mean a full scan
                UPDATE {table} SET {UPDATES[table]} WHERE id = anywhere;
                GET DIAGNOSTICS hit = ROW_COUNT;
                done := done + hit;
            END LOOP;
            DELETE FROM {table} WHERE id >= first_new - 80 * {inserts}
                                  AND id < first_new - 80 * {inserts} + {deletes};
            GET DIAGNOSTICS hit = ROW_COUNT;
            done := done + hit;
        END IF;""" for n, table in enumerate(TABLES))
    return f"""
CREATE SEQUENCE stretches MINVALUE 0;
CREATE PROCEDURE change(transactions bigint, INOUT done bigint DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
    stretch bigint; first_new bigint; anywhere bigint; hit bigint;
BEGIN
    FOR n IN 1..transactions LOOP
        stretch := nextval('stretches');
        first_new := {first_row} + stretch * {inserts};
        {branches}
        COMMIT;
    END LOOP;
END $$;"""

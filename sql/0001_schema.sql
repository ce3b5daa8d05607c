-- Schema pgstrata: what pgstrata keeps in the user's database. Never archived (DESIGN 4.13).
CREATE SCHEMA pgstrata;
GRANT USAGE ON SCHEMA pgstrata TO PUBLIC; -- for set_actor; tables are granted to nobody

CREATE TABLE pgstrata.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- archive_id, and the rules by which the triggers find tenants: tenant_table, tenant_column,
-- tenant_schemas (a pattern of schema names, with a star for the tenant; empty: none), routes
-- ({"schema.table": {"route": ..., "column": ...}}).
CREATE TABLE pgstrata.settings (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- One row: the last heartbeat (who serves this database; a copy of the server is known by it).
CREATE TABLE pgstrata.heartbeat (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    counter bigint NOT NULL,
    nonce text NOT NULL,
    beat_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pgstrata.restore_points (
    name text PRIMARY KEY,
    lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    created_at timestamptz NOT NULL DEFAULT now(),
    tenant text,
    kind text NOT NULL
);

-- Message bodies are ASCII: messages arrive in the server's encoding, tuples in the client's. Most
-- are ASCII already; others are escaped character by character, code points taken from UTF-8, since
-- ascii() knows them in UTF8 databases only.
CREATE FUNCTION pgstrata.ascii_json(body jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN octet_length(convert_to(body::text, 'UTF8')) = length(body::text)
        THEN body::text
        ELSE (SELECT string_agg(CASE
                WHEN octet_length(utf8) = 1 THEN ch
                WHEN code < 65536 THEN '\u' || lpad(to_hex(code), 4, '0')
                ELSE '\u' || to_hex(55296 + ((code - 65536) >> 10))
                  || '\u' || to_hex(56320 + ((code - 65536) & 1023)) END, '' ORDER BY n)
            FROM (SELECT ch, n, utf8, CASE octet_length(utf8)
                    WHEN 1 THEN 0
                    WHEN 2 THEN ((get_byte(utf8, 0) & 31) << 6) + (get_byte(utf8, 1) & 63)
                    WHEN 3 THEN ((get_byte(utf8, 0) & 15) << 12) + ((get_byte(utf8, 1) & 63) << 6)
                              + (get_byte(utf8, 2) & 63)
                    ELSE ((get_byte(utf8, 0) & 7) << 18) + ((get_byte(utf8, 1) & 63) << 12)
                       + ((get_byte(utf8, 2) & 63) << 6) + (get_byte(utf8, 3) & 63) END
                FROM (SELECT ch, n, convert_to(ch, 'UTF8')
                      FROM regexp_split_to_table(body::text, '') WITH ORDINALITY s(ch, n))
                     chars(ch, n, utf8)) codes(ch, n, utf8, code)) END
$$;

-- Who is acting in this transaction, for history and audit. For everyone to call; on a standby,
-- where nothing can be written, it does nothing.
CREATE FUNCTION pgstrata.set_actor(actor text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN NOT pg_is_in_recovery() THEN
        pg_logical_emit_message(true, 'pgstrata.actor',
                                pgstrata.ascii_json(jsonb_build_object('actor', actor))) END
$$;

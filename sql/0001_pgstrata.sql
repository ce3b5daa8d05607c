-- Schema pgstrata: what pgstrata keeps in the user's database, and the functions that speak into the WAL.
CREATE SCHEMA pgstrata;
GRANT USAGE ON SCHEMA pgstrata TO PUBLIC;

CREATE TABLE pgstrata.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

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

-- Message bodies are ASCII: messages arrive in the server's encoding, tuples in the client's.
CREATE FUNCTION pgstrata.ascii_json(body jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT string_agg(CASE WHEN ascii(ch) < 128 THEN ch
                           WHEN ascii(ch) < 65536 THEN '\u' || lpad(to_hex(ascii(ch)), 4, '0')
                           ELSE '\u' || to_hex(55296 + ((ascii(ch) - 65536) >> 10))
                             || '\u' || to_hex(56320 + ((ascii(ch) - 65536) & 1023)) END, '' ORDER BY n)
    FROM regexp_split_to_table(body::text, '') WITH ORDINALITY AS s(ch, n)
$$;

-- Who is acting in this transaction, for history and audit.
CREATE FUNCTION pgstrata.set_actor(actor text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog AS $$
    SELECT pg_logical_emit_message(true, 'pgstrata.actor',
                                   pgstrata.ascii_json(jsonb_build_object('actor', actor)))
$$;

-- AFTER UPDATE FOR EACH ROW WHEN (the tenant changed). Arguments: tenant column, key columns in attnum order.
-- Values are rendered as the replication connection renders them: the settings are pinned.
CREATE FUNCTION pgstrata.move() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog SET datestyle = 'ISO, YMD' SET intervalstyle = postgres
SET timezone = 'UTC' SET extra_float_digits = 3 SET bytea_output = hex SET lc_monetary = 'C'
SET lc_numeric = 'C' SET xmloption = content AS $$
DECLARE
    key_values jsonb := '[]';
    old_tenant text;
    new_tenant text;
    value text;
BEGIN
    EXECUTE format('SELECT ($1).%1$I::text, ($2).%1$I::text', TG_ARGV[0])
        INTO old_tenant, new_tenant USING OLD, NEW;
    FOR i IN 1 .. TG_NARGS - 1 LOOP
        EXECUTE format('SELECT ($1).%I::text', TG_ARGV[i]) INTO value USING NEW;
        key_values := key_values || jsonb_build_array(value);
    END LOOP;
    PERFORM pg_logical_emit_message(true, 'pgstrata.move', pgstrata.ascii_json(
        jsonb_build_object('oid', TG_RELID::bigint, 'old', old_tenant, 'new', new_tenant,
                           'key', key_values)));
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: a move between tenants was not recorded: %', SQLERRM;
    RETURN NULL;
END
$$;

-- A table as pg/relation.h describes it; route and tenant column are decided by the archiver.
CREATE FUNCTION pgstrata.relation_json(relation oid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog AS $$
    SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'identity', c.relreplident,
        'unlogged', c.relpersistence = 'u',
        'published', EXISTS (SELECT 1 FROM pg_publication_rel pr JOIN pg_publication p
                             ON p.oid = pr.prpubid WHERE pr.prrelid = c.oid AND p.pubname = 'pgstrata'),
        'tenants_table', n.nspname || '.' || c.relname = t.value
                         OR c.relname = t.value AND n.nspname = 'public',
        'key_unusable', coalesce((SELECT NOT i.indimmediate OR EXISTS (
                SELECT 1 FROM pg_attribute g WHERE g.attrelid = c.oid AND g.attgenerated <> ''
                AND g.attnum = ANY (i.indkey::smallint[]))), false),
        'tenant_fk', (SELECT a.attname FROM pg_constraint k
                JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
                JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
                WHERE k.contype = 'f' AND k.conrelid = c.oid AND cardinality(k.conkey) = 1
                AND (pn.nspname || '.' || p.relname = t.value
                     OR p.relname = t.value AND pn.nspname = 'public')
                ORDER BY k.conname LIMIT 1),
        'columns', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'name', a.attname, 'attnum', a.attnum, 'type', a.atttypid::bigint,
                'typmod', a.atttypmod, 'type_name', format_type(a.atttypid, a.atttypmod),
                'key', coalesce(a.attnum = ANY (i.indkey::smallint[]), false),
                'not_null', a.attnotnull, 'identity', a.attidentity,
                'collation', CASE WHEN a.attcollation <> 0 AND a.attcollation <> ty.typcollation
                    THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END)
                ORDER BY a.attnum)
            FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
            LEFT JOIN pg_collation co ON co.oid = a.attcollation
            LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attgenerated = ''), '[]'::jsonb))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pgstrata.settings t ON t.name = 'tenant_table'
    LEFT JOIN LATERAL (SELECT i.indkey, i.indimmediate FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident
            WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END LIMIT 1) i ON true
    WHERE c.oid = relation
$$;

-- Creates the move trigger where a row can change its tenant and its identity does not tell.
CREATE FUNCTION pgstrata.watch_moves(relation oid, tenant_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    shape jsonb := pgstrata.relation_json(relation);
    key_columns text[];
BEGIN
    SELECT array_agg(c ->> 'name' ORDER BY (c ->> 'attnum')::int) INTO key_columns
        FROM jsonb_array_elements(shape -> 'columns') c WHERE (c ->> 'key')::boolean;
    IF key_columns IS NULL OR tenant_column = ANY (key_columns) THEN
        RETURN;
    END IF;
    EXECUTE format('DROP TRIGGER IF EXISTS "!pgstrata_move" ON %s', relation::regclass);
    EXECUTE format('CREATE TRIGGER "!pgstrata_move" AFTER UPDATE ON %s FOR EACH ROW '
                   'WHEN (OLD.%2$I IS DISTINCT FROM NEW.%2$I) EXECUTE FUNCTION pgstrata.move(%3$s)',
                   relation::regclass, tenant_column,
                   (SELECT string_agg(quote_literal(a), ', ') FROM unnest(tenant_column || key_columns) a));
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER "!pgstrata_move"', relation::regclass);
END
$$;

-- A new table with a usable identity joins the publication within the command that creates it; one that loses
-- its identity leaves it, so that the user's UPDATE never fails because of us.
CREATE FUNCTION pgstrata.follow_table(relation oid, tag text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    shape jsonb := pgstrata.relation_json(relation);
    keyed boolean := EXISTS (SELECT 1 FROM jsonb_array_elements(shape -> 'columns') c
                             WHERE (c ->> 'key')::boolean);
    usable boolean := keyed AND NOT (shape ->> 'unlogged')::boolean
                      AND NOT (shape ->> 'key_unusable')::boolean AND shape ->> 'identity' <> 'n';
    tenant_column name := (SELECT a.attname FROM pg_attribute a JOIN pgstrata.settings s
                           ON s.name = 'tenant_column' AND s.value = a.attname
                           WHERE a.attrelid = relation AND NOT a.attisdropped);
BEGIN
    IF (shape ->> 'published')::boolean AND NOT usable THEN
        EXECUTE format('ALTER PUBLICATION pgstrata DROP TABLE %s', relation::regclass);
    ELSIF tag = 'CREATE TABLE' AND usable AND NOT (shape ->> 'published')::boolean THEN
        EXECUTE format('ALTER PUBLICATION pgstrata ADD TABLE %s', relation::regclass);
        tenant_column := coalesce(tenant_column, shape ->> 'tenant_fk');
        IF tenant_column IS NOT NULL THEN
            PERFORM pgstrata.watch_moves(relation, tenant_column);
        END IF;
    END IF;
END
$$;

-- Tells the archiver about every table whose shape a command may have changed.
CREATE FUNCTION pgstrata.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    relations jsonb := '[]';
    r record;
BEGIN
    -- Our own commands below come through here again: they say nothing new.
    IF current_setting('pgstrata.quiet', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM set_config('pgstrata.quiet', 'on', true);
    FOR r IN SELECT DISTINCT c.oid FROM pg_event_trigger_ddl_commands() d
             JOIN pg_class c ON c.oid = d.objid
                OR c.oid = (SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = d.objid)
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE d.classid = 'pg_class'::regclass AND c.relkind = 'r' AND c.relpersistence <> 't'
             AND n.nspname <> 'pgstrata' AND n.nspname !~ '^pg_' LOOP
        PERFORM pgstrata.follow_table(r.oid, TG_TAG);
        relations := relations || jsonb_build_array(pgstrata.relation_json(r.oid));
    END LOOP;
    IF relations <> '[]' THEN
        PERFORM pg_logical_emit_message(true, 'pgstrata.ddl', pgstrata.ascii_json(
            jsonb_build_object('tag', TG_TAG, 'relations', relations, 'dropped', '[]'::jsonb)));
    END IF;
    PERFORM set_config('pgstrata.quiet', 'off', true);
EXCEPTION WHEN OTHERS THEN
    PERFORM set_config('pgstrata.quiet', 'off', true);
    RAISE WARNING 'pgstrata: % was not recorded: %', TG_TAG, SQLERRM;
END
$$;

CREATE FUNCTION pgstrata.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    dropped jsonb;
BEGIN
    SELECT jsonb_agg(objid::bigint) INTO dropped FROM pg_event_trigger_dropped_objects()
        WHERE classid = 'pg_class'::regclass AND object_type = 'table' AND objsubid = 0
        AND NOT is_temporary AND schema_name <> 'pgstrata';
    IF dropped IS NOT NULL THEN
        PERFORM pg_logical_emit_message(true, 'pgstrata.ddl', pgstrata.ascii_json(
            jsonb_build_object('tag', TG_TAG, 'relations', '[]'::jsonb, 'dropped', dropped)));
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: % was not recorded: %', TG_TAG, SQLERRM;
END
$$;

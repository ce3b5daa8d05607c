-- Rows that move between tenants (DESIGN 5): the stream does not say where a row came from unless
-- the tenant column is part of the identity.

-- AFTER UPDATE FOR EACH ROW WHEN (the tenant changed); argument: the tenant column's number, since
-- names change. Values are printed by their types' output functions under pinned settings, as the
-- replication connection prints them; a cast to text prints boolean, inet and char(n) differently,
-- and would run the user's own casts with our rights.
CREATE FUNCTION pgstrata.move() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = postgres
SET timezone = 'UTC' SET extra_float_digits = 3 SET bytea_output = hex SET lc_monetary = 'C'
SET lc_numeric = 'C' SET xmloption = content SET quote_all_identifiers = off AS $$
DECLARE
    -- IS DISTINCT FROM NULL, not IS NOT NULL: a row value of NULLs is a value.
    printed constant text := 'CASE WHEN (%1$s).%2$I IS DISTINCT FROM NULL THEN format(''%%s'', (%1$s).%2$I) END';
    tenant name;
    keys text;
    body text;
BEGIN
    BEGIN
        SELECT a.attname, (SELECT string_agg(format(printed, '$2', k.attname), ', ' ORDER BY k.attnum)
                           FROM pgstrata.key_columns(TG_RELID) k)
            INTO STRICT tenant, keys FROM pg_attribute a
            WHERE a.attrelid = TG_RELID AND a.attnum = TG_ARGV[0]::smallint;
        IF keys IS NULL THEN
            RAISE EXCEPTION 'it has no key';
        END IF;
        EXECUTE format('SELECT pgstrata.ascii_json(jsonb_build_object(''oid'', %s, ''old'', %s,'
                       ' ''new'', %s, ''key'', jsonb_build_array(%s)))', TG_RELID::bigint,
                       format(printed, '$1', tenant), format(printed, '$2', tenant), keys)
            INTO STRICT body USING OLD, NEW;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'pgstrata: a row of % changed its tenant and could not be followed: %',
            TG_RELID::regclass, SQLERRM;
    END;
    -- Behind the block, not in it: there every moved row would cost a subtransaction, and a million
    -- of them slow the whole server down. What could not be said is a break in the table's history.
    IF body IS NOT NULL THEN
        PERFORM pg_logical_emit_message(true, 'pgstrata.move', body);
    ELSE
        PERFORM pg_logical_emit_message(true, 'pgstrata.ddl', format(
            '{"tag": "move", "relations": [], "dropped": [], "changed": [%s]}', TG_RELID::bigint));
    END IF;
    RETURN NULL;
END
$$;

-- Types whose equal values have equal text, so that their plain comparison tells every move. Others
-- (1.0 and 1.00, citext) are compared byte by byte.
CREATE FUNCTION pgstrata.equality_is_exact(relation oid, number smallint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT a.atttypid IN ('int2'::pg_catalog.regtype, 'int4'::pg_catalog.regtype,
                          'int8'::pg_catalog.regtype, 'uuid'::pg_catalog.regtype)
        OR a.atttypid IN ('text'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype)
           AND coalesce(co.collisdeterministic, true)
    FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
    WHERE a.attrelid = relation AND a.attnum = number
$$;

-- Gives the table its move trigger, in place of one for another column. ENABLE ALWAYS: it fires
-- under session_replication_role = replica too. The name sorts first.
CREATE FUNCTION pgstrata.watch_moves(relation oid, tenant_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    number smallint;
BEGIN
    SELECT a.attnum INTO STRICT number FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = tenant_column AND NOT a.attisdropped;
    PERFORM pgstrata.unwatch_moves(relation);
    EXECUTE format('CREATE TRIGGER "!pgstrata_move" AFTER UPDATE ON %s FOR EACH ROW WHEN ('
                   || CASE WHEN pgstrata.equality_is_exact(relation, number)
                      THEN 'OLD.%2$I IS DISTINCT FROM NEW.%2$I'
                      ELSE 'record_image_ne(ROW(OLD.%2$I), ROW(NEW.%2$I))' END
                   || ') EXECUTE FUNCTION pgstrata.move(%3$L)',
                   relation::regclass, tenant_column, number);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER "!pgstrata_move"', relation::regclass);
END
$$;

CREATE FUNCTION pgstrata.unwatch_moves(relation oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation AND t.tgname = '!pgstrata_move') THEN
        EXECUTE format('DROP TRIGGER "!pgstrata_move" ON %s', relation::regclass);
    END IF;
END
$$;

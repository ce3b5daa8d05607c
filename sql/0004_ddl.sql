-- Commands that change tables send no row events (DESIGN 5): event triggers tell the archiver, keep
-- the publication right within the user's own command, and never fail it.

CREATE FUNCTION pgstrata.emit_ddl(tag text, relations jsonb, dropped jsonb, changed jsonb)
RETURNS void
LANGUAGE sql VOLATILE AS $$
    SELECT pg_catalog.pg_logical_emit_message(true, 'pgstrata.ddl', pgstrata.ascii_json(
        pg_catalog.jsonb_build_object('tag', tag, 'relations', relations, 'dropped', dropped,
                                      'changed', changed)))
$$;

-- Whether a published table lets the user's UPDATE and DELETE through.
CREATE FUNCTION pgstrata.is_usable(relation oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT c.relpersistence = 'p' AND c.relreplident <> 'n'
        AND EXISTS (SELECT FROM pgstrata.key_columns(relation))
        AND NOT EXISTS (SELECT FROM pgstrata.key_columns(relation) k
                        WHERE k.generated OR NOT k.immediate)
    FROM pg_catalog.pg_class c WHERE c.oid = relation
$$;

-- Whether it can be archived: as catalog_decide says, apart from what only a connection knows.
CREATE FUNCTION pgstrata.is_covered(relation oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT pgstrata.is_usable(relation) AND NOT pgstrata.is_own(relation)
        AND CASE pgstrata.configured(relation, 'route')
            WHEN 'shared' THEN true
            WHEN 'schema' THEN true
            WHEN 'column' THEN pgstrata.tenant_column(relation) IS NOT NULL
            ELSE pgstrata.configured(relation, 'route') IS NULL
                AND (pgstrata.tenant_column(relation) IS NOT NULL
                     OR pgstrata.is_tenants_own(relation)
                     OR cardinality(pgstrata.tenant_fks(relation)) = 0
                        AND pgstrata.tenant_parent(relation) IS NULL
                        AND relation IS DISTINCT FROM pgstrata.tenants_table()) END
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = relation
                        AND a.attname = pgstrata.tenant_column(relation) AND a.attgenerated <> '')
$$;

-- Keeps publication and move trigger right: a table joins within the command that makes it
-- coverable, and one that loses its identity leaves within the command that takes it, so that the
-- user's UPDATE never fails because of us (DESIGN 4.8). What cannot be done here, since another
-- transaction holds the publication or the role may not, `serve` does soon.
CREATE FUNCTION pgstrata.follow(relation oid) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    covered boolean := pgstrata.is_covered(relation);
    published boolean := EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
                                 WHERE pr.prrelid = relation AND p.pubname = 'pgstrata');
    tenant pg_attribute;
    watched text := (SELECT encode(t.tgargs, 'escape') FROM pg_trigger t
                     WHERE t.tgrelid = relation AND t.tgname = '!pgstrata_move' AND t.tgenabled = 'A');
BEGIN
    IF published AND NOT pgstrata.is_usable(relation) THEN
        EXECUTE format('ALTER PUBLICATION pgstrata DROP TABLE ONLY %s', relation::regclass);
    ELSIF covered AND NOT published THEN
        EXECUTE format('ALTER PUBLICATION pgstrata ADD TABLE ONLY %s', relation::regclass);
    END IF;
    SELECT a.* INTO tenant FROM pg_attribute a
        WHERE a.attrelid = relation AND a.attname = pgstrata.tenant_column(relation);
    IF covered AND tenant.attnum IS NOT NULL
        AND (SELECT c.relreplident FROM pg_class c WHERE c.oid = relation) <> 'f'
        AND NOT EXISTS (SELECT FROM pgstrata.key_columns(relation) k WHERE k.attnum = tenant.attnum)
    THEN
        IF watched IS DISTINCT FROM tenant.attnum || '\000' THEN
            PERFORM pgstrata.watch_moves(relation, tenant.attname);
        END IF;
    ELSE
        PERFORM pgstrata.unwatch_moves(relation);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'pgstrata: % could not be followed at once: %', relation::regclass, SQLERRM;
END
$$;

-- The user's tables among these, with the partitions and inheriting tables below them.
CREATE FUNCTION pgstrata.tables_below(relations oid[]) RETURNS SETOF oid
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below (oid) AS (
        SELECT unnest(relations)
        UNION SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
    )
    SELECT c.oid FROM below JOIN pg_catalog.pg_class c ON c.oid = below.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
    AND n.nspname NOT IN ('pgstrata', 'information_schema') ORDER BY c.oid
$$;

-- Tables with a column that is made of this type, however deep.
CREATE FUNCTION pgstrata.tables_of_type(type oid) RETURNS oid[]
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE made (oid) AS (
        SELECT type
        UNION SELECT t.oid FROM made JOIN LATERAL (
            SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typelem = made.oid OR t.typbasetype = made.oid
            UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngsubtype = made.oid
            UNION ALL SELECT r.rngmultitypid FROM pg_catalog.pg_range r WHERE r.rngtypid = made.oid
            UNION ALL SELECT c.reltype FROM pg_catalog.pg_attribute a
                JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.reltype <> 0
                WHERE a.atttypid = made.oid) t ON true
    )
    SELECT coalesce(pg_catalog.array_agg(DISTINCT a.attrelid), '{}') FROM made
    JOIN pg_catalog.pg_attribute a ON a.atttypid = made.oid AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- What the tables a command touched look like now, one message for each kind of command in it
-- (CREATE SCHEMA may hold several).
CREATE FUNCTION pgstrata.tell(tag text, relations oid[], changed oid[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    relation oid;
    shapes jsonb := '[]';
BEGIN
    FOR relation IN SELECT t FROM pgstrata.tables_below(relations) t LOOP
        PERFORM pgstrata.follow(relation);
        shapes := shapes || pgstrata.relation_json(relation);
    END LOOP;
    changed := ARRAY(SELECT t FROM pgstrata.tables_below(changed) t);
    IF shapes <> '[]' OR cardinality(changed) > 0 THEN
        PERFORM pgstrata.emit_ddl(tag, shapes, '[]', to_jsonb(changed::bigint[]));
    END IF;
END
$$;

-- ALTER TYPE of an enum: the labels as they are before it. RENAME VALUE changes what stored rows
-- print, ADD VALUE does not, and only a comparison tells them apart.
CREATE FUNCTION pgstrata.on_ddl_start() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM set_config('pgstrata.labels', (SELECT coalesce(jsonb_object_agg(e.oid, e.enumlabel), '{}')::text
                                           FROM pg_enum e), true);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: %: %', TG_TAG, SQLERRM;
END
$$;

-- Whether stored values of the type may print differently than before the command.
CREATE FUNCTION pgstrata.type_changed(type oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE t.typtype
        WHEN 'e' THEN EXISTS (SELECT FROM pg_catalog.pg_enum e
            WHERE e.enumtypid = t.oid AND coalesce(before.labels ->> e.oid::text <> e.enumlabel, before.labels IS NULL))
        ELSE t.typtype = 'c' END
    FROM pg_catalog.pg_type t,
        (SELECT nullif(pg_catalog.current_setting('pgstrata.labels', true), '')::jsonb) before (labels)
    WHERE t.oid = type
$$;

-- Whether a table that was just made has rows by now: another event trigger, whose name sorts before
-- ours, may have put some in before the table was published.
CREATE FUNCTION pgstrata.may_have_rows(relations oid[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
DECLARE
    relation oid;
    has_rows boolean;
BEGIN
    FOR relation IN SELECT t FROM pgstrata.tables_below(relations) t LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s)', relation::regclass) INTO has_rows;
        IF has_rows THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
EXCEPTION WHEN OTHERS THEN
    RETURN true;
END
$$;

CREATE FUNCTION pgstrata.on_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
SET lock_timeout = '100ms' AS $$
DECLARE
    command record;
    types oid[];
    touched oid[];
BEGIN
    -- The commands of pgstrata.follow come through here again: they say nothing new.
    IF current_setting('pgstrata.following', true) = 'on' THEN
        RETURN;
    END IF;
    PERFORM set_config('pgstrata.following', 'on', true);
    touched := ARRAY(SELECT d.objid FROM pg_event_trigger_ddl_commands() d
                     WHERE d.classid = 'pg_class'::regclass AND d.objid IS NOT NULL);
    FOR command IN
        SELECT d.command_tag AS tag,
               ARRAY(SELECT DISTINCT u FROM unnest(array_agg(d.objid)
                         FILTER (WHERE d.classid = 'pg_class'::regclass)) u) AS relations,
               array_agg(d.objid) FILTER (WHERE d.classid = 'pg_type'::regclass) AS types,
               array_agg(d.objid) FILTER (WHERE d.classid = 'pg_namespace'::regclass) AS schemas
        -- One CREATE TABLE may come as several commands; that it makes the table is what counts.
        FROM (SELECT DISTINCT ON (d.classid, d.objid) d.classid, d.objid, d.command_tag
              FROM pg_event_trigger_ddl_commands() d
              WHERE d.objid IS NOT NULL AND d.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS',
                  'SELECT INTO', 'ALTER TABLE', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN')
              ORDER BY d.classid, d.objid, d.command_tag LIKE 'ALTER%') d
        GROUP BY d.command_tag LOOP
        -- A composite type's attributes, and a table's columns where other tables have its rows as
        -- values, are told of as relations.
        types := command.types || ARRAY(
            SELECT c.reltype FROM pg_class c WHERE c.oid = ANY (command.relations)
            AND c.reltype <> 0 AND command.tag LIKE 'ALTER%');
        -- A created table begins empty; one that was filled needs a base.
        PERFORM pgstrata.tell(CASE WHEN command.tag = 'CREATE TABLE'
                AND pgstrata.may_have_rows(command.relations) THEN 'CREATE TABLE AS' ELSE command.tag END,
            command.relations
            || ARRAY(SELECT unnest(pgstrata.tables_of_type(t)) FROM unnest(types) t)
            || ARRAY(SELECT c.oid FROM pg_class c WHERE c.relnamespace = ANY (command.schemas)
                     AND c.relkind = 'r'),
            ARRAY(SELECT unnest(pgstrata.tables_of_type(t)) FROM unnest(types) t
                  WHERE pgstrata.type_changed(t)));
    END LOOP;
    PERFORM set_config('pgstrata.following', 'off', true);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: % could not be recorded: %', TG_TAG, SQLERRM;
    -- Better a break in these tables' history than a wrong answer.
    PERFORM pgstrata.emit_ddl(TG_TAG, '[]', '[]', to_jsonb(coalesce(touched, '{}')::bigint[]));
END
$$;

-- ALTER TABLE ... TYPE ... USING may change every stored row and leave the columns as they were.
CREATE FUNCTION pgstrata.on_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    column_rewrite constant int := 4; -- AT_REWRITE_COLUMN_REWRITE; others keep what rows print
BEGIN
    IF pg_event_trigger_table_rewrite_reason() & column_rewrite <> 0 THEN
        PERFORM pgstrata.tell(TG_TAG, '{}', ARRAY[pg_event_trigger_table_rewrite_oid()]);
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: % could not be recorded: %', TG_TAG, SQLERRM;
END
$$;

-- Dropped tables; tables that lost something with what was dropped: a column, a foreign key, or the
-- index that was their identity (DROP INDEX names no table, so all published ones are looked at); and
-- tables that somebody took out of the publication.
CREATE FUNCTION pgstrata.on_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET quote_all_identifiers = off
SET lock_timeout = '100ms' AS $$
DECLARE
    dropped oid[];
    touched oid[];
    unpublished oid[];
    indexes bigint;
BEGIN
    IF current_setting('pgstrata.following', true) = 'on' THEN
        RETURN;
    END IF;
    SELECT array_agg(d.objid) FILTER (WHERE d.object_type = 'table' AND d.objsubid = 0),
           array_agg(t.oid) FILTER (WHERE d.object_type IN ('table column', 'table constraint')),
           array_agg(t.oid) FILTER (WHERE d.object_type = 'publication relation'
                                    AND d.address_args = '{pgstrata}'),
           count(*) FILTER (WHERE d.object_type = 'index')
        INTO dropped, touched, unpublished, indexes
        FROM pg_event_trigger_dropped_objects() d
        LEFT JOIN pg_class t ON t.oid = CASE WHEN d.objsubid > 0 THEN d.objid
            ELSE to_regclass(quote_ident(d.address_names[1]) || '.' || quote_ident(d.address_names[2])) END
        WHERE NOT d.is_temporary AND d.schema_name IS DISTINCT FROM 'pgstrata';
    IF coalesce(dropped, touched, unpublished) IS NULL AND indexes = 0 THEN
        RETURN;
    END IF;
    PERFORM set_config('pgstrata.following', 'on', true);
    touched := touched || ARRAY(
        SELECT pr.prrelid FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
        WHERE p.pubname = 'pgstrata' AND NOT pgstrata.is_usable(pr.prrelid));
    PERFORM pgstrata.tell(TG_TAG, touched, unpublished);
    IF dropped IS NOT NULL THEN
        PERFORM pgstrata.emit_ddl(TG_TAG, '[]', to_jsonb(dropped::bigint[]), '[]');
    END IF;
    PERFORM set_config('pgstrata.following', 'off', true);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgstrata: % could not be recorded: %', TG_TAG, SQLERRM;
    PERFORM pgstrata.emit_ddl(TG_TAG, '[]', '[]', to_jsonb(coalesce(array_cat(dropped, touched), '{}')::bigint[]));
END
$$;

-- PUBLIC needs set_actor and what it calls, nothing else.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA pgstrata FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgstrata.set_actor(text), pgstrata.ascii_json(jsonb) TO PUBLIC;

-- What is known about a table: the facts by which pg/catalog.c decides route and coverage, as JSON,
-- and the same decisions for what triggers must do within the user's command. These helpers have no
-- search_path of their own: they are called only by functions that pin it, and by setup.

-- The columns that tell rows apart: the replica identity's or, with FULL, the primary key's. Columns
-- that an index merely INCLUDEs are none.
CREATE FUNCTION pgstrata.key_columns(relation oid)
RETURNS TABLE (attnum smallint, attname name, generated boolean, immediate boolean)
LANGUAGE sql STABLE AS $$
    SELECT a.attnum, a.attname, a.attgenerated <> '', i.indimmediate
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisvalid AND CASE c.relreplident
        WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
        AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
    WHERE c.oid = relation
$$;

-- Schema and name as the configuration writes them.
CREATE FUNCTION pgstrata.plain_name(relation oid) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation
$$;

CREATE FUNCTION pgstrata.setting(setting text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT s.value FROM pgstrata.settings s WHERE s.name = setting
$$;

-- What the configuration says about the table; NULL: nothing.
CREATE FUNCTION pgstrata.configured(relation oid, what text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT pgstrata.setting('routes')::jsonb -> pgstrata.plain_name(relation) ->> what
$$;

-- pgstrata's own: never archived.
CREATE FUNCTION pgstrata.is_own(relation oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT n.nspname = 'pgstrata' OR c.relname IN ('tenant_backups', 'tenant_backup_schedules',
                                                   'tenant_backup_logs')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = relation
$$;

-- The configured tenants table; without a schema in its name, public's comes first.
CREATE FUNCTION pgstrata.tenants_table() RETURNS oid
LANGUAGE sql STABLE AS $$
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
    AND pgstrata.setting('tenant_table') IN (c.relname, n.nspname || '.' || c.relname)
    ORDER BY n.nspname = 'public' DESC, n.nspname LIMIT 1
$$;

CREATE FUNCTION pgstrata.tenants_key() RETURNS smallint
LANGUAGE sql STABLE AS $$
    SELECT min(k.attnum) FROM pgstrata.key_columns(pgstrata.tenants_table()) k HAVING count(*) = 1
$$;

-- The columns that refer, each alone, to the tenants table's key.
CREATE FUNCTION pgstrata.tenant_fks(relation oid) RETURNS name[]
LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(DISTINCT a.attname), '{}')
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_attribute a
        ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
    WHERE k.contype = 'f' AND k.conrelid = relation AND cardinality(k.conkey) = 1
    AND k.confrelid = pgstrata.tenants_table() AND k.confkey[1] = pgstrata.tenants_key()
$$;

-- The tenant whose schema the table is in, by the configured pattern; NULL: nobody's.
CREATE FUNCTION pgstrata.schema_tenant(relation oid) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT substr(n.nspname, length(p.head) + 1, length(n.nspname) - length(p.head) - length(p.tail))
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN (SELECT split_part(s, '*', 1), split_part(s, '*', 2)
                FROM pgstrata.setting('tenant_schemas') s WHERE s <> '') p (head, tail)
    WHERE c.oid = relation AND n.nspname NOT IN ('public', 'pgstrata', 'information_schema')
    AND n.nspname !~ '^pg_' AND length(n.nspname) > length(p.head) + length(p.tail)
    AND starts_with(n.nspname, p.head) AND right(n.nspname, length(p.tail)) = p.tail
$$;

-- Whether all its rows are one tenant's: the route `schema`.
CREATE FUNCTION pgstrata.is_tenants_own(relation oid) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT NOT pgstrata.is_own(relation) AND CASE
        WHEN pgstrata.configured(relation, 'route') IS NOT NULL
            THEN pgstrata.configured(relation, 'route') = 'schema'
        ELSE relation IS DISTINCT FROM pgstrata.tenants_table()
            AND pgstrata.schema_tenant(relation) IS NOT NULL END
$$;

-- The column that names the tenant, as catalog_decide finds it; NULL: none.
CREATE FUNCTION pgstrata.tenant_column(relation oid) RETURNS name
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN pgstrata.is_own(relation)
            OR coalesce(pgstrata.configured(relation, 'route'), 'column') <> 'column' THEN NULL
        WHEN relation = pgstrata.tenants_table() THEN
            (SELECT k.attname FROM pgstrata.key_columns(relation) k
             WHERE k.attnum = pgstrata.tenants_key())
        WHEN pgstrata.is_tenants_own(relation) THEN NULL
        ELSE coalesce(
            (SELECT a.attname FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attname = coalesce(pgstrata.configured(relation, 'column'),
                                      pgstrata.setting('tenant_column'))),
            (SELECT f[1] FROM pgstrata.tenant_fks(relation) f
             WHERE cardinality(f) = 1 AND pgstrata.configured(relation, 'route') IS NULL)) END
$$;

-- A table without tenant column: the table it refers to on a way that leads to one with a tenant.
CREATE FUNCTION pgstrata.tenant_parent(relation oid) RETURNS name
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE up (via, at) AS (
        SELECT k.confrelid, k.confrelid FROM pg_catalog.pg_constraint k
        WHERE k.contype = 'f' AND k.conrelid = relation AND k.confrelid <> relation
        UNION
        SELECT up.via, k.confrelid FROM up
        JOIN pg_catalog.pg_constraint k ON k.conrelid = up.at AND k.contype = 'f'
        WHERE pgstrata.tenant_column(up.at) IS NULL
        AND pgstrata.configured(up.at, 'route') IS NULL AND NOT pgstrata.is_tenants_own(up.at)
    )
    SELECT min(c.relname) FROM up JOIN pg_catalog.pg_class c ON c.oid = up.via
    WHERE pgstrata.tenant_column(up.at) IS NOT NULL
$$;

-- A table as pg/relation.h describes it; catalog_decide makes route and coverage of it.
CREATE FUNCTION pgstrata.relation_json(relation oid) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    SELECT jsonb_build_object(
        'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'identity', c.relreplident,
        'unlogged', c.relpersistence = 'u',
        'published', EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p
                             ON p.oid = pr.prpubid WHERE pr.prrelid = c.oid AND p.pubname = 'pgstrata'),
        'key_unusable', EXISTS (SELECT FROM pgstrata.key_columns(c.oid) k
                                WHERE k.generated OR NOT k.immediate),
        'tenants_table', c.oid IS NOT DISTINCT FROM pgstrata.tenants_table(),
        'tenant_fk', CASE WHEN cardinality(f.columns) = 1 THEN f.columns[1] END,
        'tenant_fk_ambiguous', cardinality(f.columns) > 1,
        'tenant_parent', pgstrata.tenant_parent(c.oid),
        'generated', coalesce((SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attgenerated <> ''), '[]'),
        'columns', coalesce((SELECT jsonb_agg(jsonb_build_object(
                'name', a.attname, 'attnum', a.attnum, 'type', a.atttypid::bigint,
                'typmod', a.atttypmod, 'type_name', format_type(a.atttypid, a.atttypmod),
                'key', EXISTS (SELECT FROM pgstrata.key_columns(c.oid) k WHERE k.attnum = a.attnum),
                'not_null', a.attnotnull, 'identity', a.attidentity,
                'collation', CASE WHEN a.attcollation <> 0 AND a.attcollation <> ty.typcollation
                    THEN quote_ident(cn.nspname) || '.' || quote_ident(co.collname) END)
                ORDER BY a.attnum)
            FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid
            LEFT JOIN pg_collation co ON co.oid = a.attcollation
            LEFT JOIN pg_namespace cn ON cn.oid = co.collnamespace
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attgenerated = ''), '[]'))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL pgstrata.tenant_fks(c.oid) f (columns)
    WHERE c.oid = relation
$$;

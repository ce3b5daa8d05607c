#include "restore/select.h"

#include "core/err.h"

#include <ctype.h>

/* Longer names are compared by their beginning alone. */
#define NEAR_LENGTH_MAX 63

static bool
name_fits(const char *wanted, struct slice schema, struct slice name)
{
    struct slice text = slice_str(wanted);
    if (slice_equal(text, name))
        return true;
    return text.size == schema.size + 1 + name.size &&
           memcmp(text.data, schema.data, schema.size) == 0 && text.data[schema.size] == '.' &&
           memcmp(text.data + schema.size + 1, name.data, name.size) == 0;
}

static bool
any_fits(const char *const *wanted, size_t count, struct slice schema, struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (name_fits(wanted[i], schema, name))
            return true;
    }
    return false;
}

bool
selection_names(const struct selection *s, struct slice schema, struct slice name)
{
    return any_fits(s->tables, s->table_count, schema, name);
}

bool
selection_keeps(const struct selection *s, struct slice schema, struct slice name)
{
    if (any_fits(s->excluded, s->excluded_count, schema, name))
        return false;
    return s->table_count == 0 || selection_names(s, schema, name);
}

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance without regard to case, row by row. */
static size_t
distance(struct slice a, struct slice b)
{
    size_t row[NEAR_LENGTH_MAX + 1];
    size_t columns = least(b.size, NEAR_LENGTH_MAX), rows = least(a.size, NEAR_LENGTH_MAX);
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; i <= rows; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            bool same = tolower(a.data[i - 1]) == tolower(b.data[j - 1]);
            size_t replaced = diagonal + (same ? 0 : 1);
            diagonal = row[j];
            row[j] = least(replaced, least(row[j] + 1, row[j - 1] + 1));
        }
    }
    return row[columns];
}

struct slice
name_near(struct slice name, const struct slice *known, size_t known_count)
{
    struct slice best = SLICE_NULL;
    /* A third of the letters wrong is another word, and short names are all near each other. */
    size_t best_distance = name.size / 3 + 1;
    for (size_t i = 0; i < known_count; i++) {
        size_t d = distance(name, known[i]);
        if (d < best_distance || (d == best_distance && best.data == NULL && name.size > 3)) {
            best = known[i];
            best_distance = d;
        }
    }
    return best;
}

static int
unknown_table(const char *wanted, const struct table_name *known, size_t count, struct pgs_err *err)
{
    struct slice text = slice_str(wanted);
    const uint8_t *dot = memchr(text.data, '.', text.size);
    struct slice bare =
        dot == NULL ? text : slice_of(dot + 1, text.size - (size_t)(dot + 1 - text.data));
    struct arena *scratch = arena_new(NULL);
    struct slice *names = arena_alloc_array(scratch, count + 1, sizeof(*names));
    for (size_t i = 0; i < count; i++)
        names[i] = known[i].name;
    struct slice near = name_near(bare, names, count);
    int rc = err_set(err, PGS_E_NOT_FOUND, "no table \"%s\"", wanted);
    if (near.data != NULL)
        rc = err_hint(err, "did you mean \"%.*s\"?", SLICE_PRINT(near));
    arena_free(scratch);
    return rc;
}

static int
names_check(const char *const *wanted, size_t wanted_count, const struct table_name *known,
            size_t count, struct pgs_err *err)
{
    for (size_t i = 0; i < wanted_count; i++) {
        bool found = false;
        for (size_t j = 0; j < count && !found; j++)
            found = name_fits(wanted[i], known[j].schema, known[j].name);
        if (!found)
            return unknown_table(wanted[i], known, count, err);
    }
    return 0;
}

int
selection_check(const struct selection *s, const struct table_name *known, size_t known_count,
                struct pgs_err *err)
{
    int rc = names_check(s->tables, s->table_count, known, known_count, err);
    return rc < 0 ? rc : names_check(s->excluded, s->excluded_count, known, known_count, err);
}

struct tenant
tenant_of(const char *name)
{
    if (strcmp(name, TENANT_SHARED_NAME) == 0)
        return (struct tenant){ .scope = SCOPE_SHARED, .key = slice_str("") };
    return (struct tenant){ .scope = SCOPE_TENANT, .key = slice_str(name) };
}

int
tenant_check(struct archive *a, const struct tenant *tenant, struct pgs_err *err)
{
    bool has = false;
    if (tenant->scope == SCOPE_SHARED)
        return 0;
    int rc = archive_has_tenant(a, tenant->key, &has, err);
    if (rc < 0 || has)
        return rc;
    struct arena *scratch = arena_new(NULL);
    struct slice *known;
    size_t count;
    rc = archive_tenants(a, scratch, &known, &count, err);
    if (rc == 0) {
        struct slice near = name_near(tenant->key, known, count);
        (void)err_set(err, PGS_E_NOT_FOUND, "no tenant \"%.*s\"", SLICE_PRINT(tenant->key));
        rc = near.data != NULL ? err_hint(err, "did you mean \"%.*s\"?", SLICE_PRINT(near))
                               : err_hint(err, "`pgstrata tenant list` shows those there are");
    }
    arena_free(scratch);
    return rc;
}

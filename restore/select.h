/* select.h: which tables and which tenant the caller means.
 *
 * A table is named "t" or "schema.t"; "t" means every table of that name. Pure but for
 * tenant_check. */
#ifndef RESTORE_SELECT_H
#define RESTORE_SELECT_H

#include "restore/restore.h"

/* What --tables and --exclude-tables said. Counts of 0: nothing was said. */
struct selection {
    const char *const *tables;
    size_t table_count;
    const char *const *excluded;
    size_t excluded_count;
};
/* Whether the caller named the table in so many words. */
bool selection_names(const struct selection *s, struct slice schema, struct slice name);
bool selection_keeps(const struct selection *s, struct slice schema, struct slice name);

/* Tables that exist, for checking names against. */
struct table_name {
    struct slice schema, name;
};
/* Every name in the selection must fit a table. PGS_E_NOT_FOUND, with a near name in the hint. */
PGS_CHECKED int selection_check(const struct selection *s, const struct table_name *known,
                                size_t known_count, struct pgs_err *err);

/* The known name that differs from `name` in the fewest letters, if that is few enough for a typing
 * mistake; SLICE_NULL: none. */
struct slice name_near(struct slice name, const struct slice *known, size_t known_count);

/* The tenant as the archive keys it. "_shared" is SCOPE_SHARED. */
struct tenant tenant_of(const char *name);
/* PGS_E_NOT_FOUND unless the archive has versions of the tenant. SCOPE_SHARED always passes. */
PGS_CHECKED int tenant_check(struct archive *a, const struct tenant *tenant, struct pgs_err *err);

#endif

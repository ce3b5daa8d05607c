/* side_schema.h: loads a tenant's rows beside the live ones, into tables of another schema. */
#ifndef RESTORE_SIDE_SCHEMA_H
#define RESTORE_SIDE_SCHEMA_H

#include "restore/plan.h"

/* Creates the schema when it is absent and a table per table of the plan: columns, types, primary
 * key as they were at the cut, no defaults, no foreign keys. Tables keep their names; where two
 * schemas have one of the same name it is called `schema.table`. In one transaction; rows are
 * counted as inserted. PGS_E_CONFLICT: a table of that name is there already. dry_run: counts, and
 * rolls back. */
PGS_CHECKED int side_schema_load(struct plan *plan, const char *schema, bool dry_run,
                                 struct pgs_err *err);

#endif

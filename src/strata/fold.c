#include "strata/scan.h"

#include "core/err.h"
#include "strata/fold_internal.h"

#include <stdlib.h>

struct fold {
    size_t count;
    struct row_field *fields;   /* point into `bytes` of the same column */
    struct row_field *incoming; /* of the version being applied */
    struct buf *bytes;
    bool alive;
};

struct fold *
fold_new(size_t column_count, struct budget *budget)
{
    (void)budget; /* one row: counted by the caller's largest message */
    struct fold *f = calloc(1, sizeof(*f));
    if (f == NULL)
        abort();
    f->count = column_count;
    f->fields = calloc(column_count + 1, sizeof(*f->fields));
    f->incoming = calloc(column_count + 1, sizeof(*f->incoming));
    f->bytes = calloc(column_count + 1, sizeof(*f->bytes));
    if (f->fields == NULL || f->incoming == NULL || f->bytes == NULL)
        abort();
    return f;
}

void
fold_free(struct fold *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->count; i++)
        buf_release(&f->bytes[i]);
    free(f->fields);
    free(f->incoming);
    free(f->bytes);
    free(f);
}

void
fold_reset(struct fold *f)
{
    f->alive = false;
}

static void
field_set(struct fold *f, size_t i, const struct row_field *field)
{
    buf_reset(&f->bytes[i]);
    buf_put_slice(&f->bytes[i], field->text);
    f->fields[i].kind = field->kind;
    f->fields[i].text = field->kind == ROW_TEXT ? buf_slice(&f->bytes[i]) : SLICE_NULL;
}

void
fold_carry(struct fold *f, const struct row_field *fields)
{
    for (size_t i = 0; i < f->count; i++)
        field_set(f, i, &fields[i]);
    f->alive = true;
}

bool
fold_needs_carry(struct fold *f, const struct version *v)
{
    struct pgs_err ignored;
    if ((f->alive && v->prev_key.data == NULL) ||
        row_split(v->row, f->count, f->incoming, &ignored) < 0)
        return false;
    for (size_t i = 0; i < f->count; i++) {
        if (f->incoming[i].kind == ROW_UNCHANGED)
            return true;
    }
    return false;
}

static int
apply_image(struct fold *f, const struct version *v, struct pgs_err *err)
{
    int rc = row_split(v->row, f->count, f->incoming, err);
    for (size_t i = 0; rc == 0 && i < f->count; i++) {
        if (f->incoming[i].kind != ROW_UNCHANGED)
            field_set(f, i, &f->incoming[i]);
        else if (!f->alive)
            rc = err_set(err, PGS_E_REFUSED,
                         "a large value that did not change has no earlier version to come from");
    }
    if (rc < 0)
        return err->kind == PGS_E_REFUSED ? err_code(err, "unresolved_toast") : rc;
    f->alive = true;
    return 0;
}

int
fold_apply(struct fold *f, const struct version *v, struct pgs_err *err)
{
    switch (v->op) {
    case VERSION_INSERT: f->alive = false; return apply_image(f, v, err);
    case VERSION_UPDATE: return apply_image(f, v, err);
    case VERSION_DELETE:
    case VERSION_TRUNCATE:
    case VERSION_MOVED_OUT: f->alive = false; return 0;
    case VERSION_MOVED_IN: return 0;
    }
    return err_set(err, PGS_E_CORRUPT, "version of kind %d", (int)v->op);
}

int
fold_apply_known(struct fold *f, const struct version *v, struct pgs_err *err)
{
    if (v->op == VERSION_UPDATE && !f->alive) {
        for (size_t i = 0; i < f->count; i++)
            f->fields[i] = (struct row_field){ ROW_NULL, SLICE_NULL };
        f->alive = true;
    }
    return fold_apply(f, v, err);
}

const struct row_field *
fold_row(const struct fold *f)
{
    return f->alive ? f->fields : NULL;
}

/* archive_era.c: which part of the log is in view. */
#include "strata/archive_internal.h"

#include "core/err.h"

uint32_t
archive_era_current(const struct archive *a)
{
    const struct log_entry *last = alog_last(a->log);
    return last != NULL ? last->era : 1;
}

uint32_t
archive_era(const struct archive *a)
{
    return a->view_begin < a->view_end ? alog_entry(a->log, a->view_begin)->era : 1;
}

uint64_t
archive_system_id(const struct archive *a)
{
    return a->view_begin < a->view_end ? alog_entry(a->log, a->view_begin)->system_id : 0;
}

/* An era may be left twice: by the one after it, and by one that left that one where it still had
 * this one's history. */
static pgs_lsn
limit_of(const struct archive *a, size_t end)
{
    pgs_lsn limit = UINT64_MAX;
    for (size_t i = end; i < alog_count(a->log); i++) {
        const struct log_entry *e = alog_entry(a->log, i);
        pgs_lsn fork = log_entry_fork(e);
        if (e->kind == LOG_ERA && fork == 0)
            break;
        if (e->kind == LOG_ERA && fork < limit)
            limit = fork;
    }
    return limit;
}

static void
view_set(struct archive *a, uint32_t era)
{
    size_t end = alog_count(a->log);
    while (end > 0 && alog_entry(a->log, end - 1)->era > era)
        end--;
    size_t begin = end;
    while (begin > 0 && alog_entry(a->log, begin - 1)->era == era)
        begin--;
    a->view_begin = begin;
    a->view_end = end;
    a->view_limit = limit_of(a, end);
}

void
archive_view_current(struct archive *a)
{
    view_set(a, archive_era_current(a));
}

void
archive_view_whole(struct archive *a)
{
    a->view_limit = UINT64_MAX;
}

int
archive_view(struct archive *a, uint32_t era, struct pgs_err *err)
{
    uint32_t current = archive_era_current(a);
    if (era > current) {
        (void)err_set(err, PGS_E_NOT_FOUND, "the archive has no era %u", era);
        return err_hint(err, "the current one is %u; `pgstrata status` lists them", current);
    }
    view_set(a, era == 0 ? current : era);
    return 0;
}

int
archive_eras(struct archive *a, struct arena *arena, struct era **eras, size_t *count,
             struct pgs_err *err)
{
    uint32_t current = archive_era_current(a);
    struct era *list = arena_alloc_array(arena, current + 1, sizeof(*list));
    size_t n = 0;
    int rc = 0;
    for (uint32_t number = 1; rc == 0 && number <= current; number++) {
        rc = archive_view(a, number, err);
        if (rc < 0 || a->view_begin == a->view_end)
            continue;
        const struct log_entry *e = alog_entry(a->log, a->view_begin);
        list[n++] = (struct era){ .number = number,
                                  .begin = e->kind == LOG_ERA ? e->range.begin : 0,
                                  .fork = log_entry_fork(e),
                                  .end = archive_end(a),
                                  .created = e->created,
                                  .system_id = e->system_id,
                                  .reason = e->kind == LOG_ERA ? e->reason : SLICE_NULL };
    }
    archive_view_current(a);
    if (rc < 0)
        return rc;
    *eras = list;
    *count = n;
    return 0;
}

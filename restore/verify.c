/* verify.c: reads the archive whole, and says what is wrong with it. */
#include "restore/verify_live.h"

#include "core/err.h"
#include "restore/select.h"

struct verifier {
    struct restore_session *session;
    const struct verify_opts *opts;
    struct arena *arena;
    struct verify_result *result;
};

static int
holds_tenant(struct verifier *v, const struct segment_info *info, bool *holds, struct pgs_err *err)
{
    struct segment *segment = NULL;
    struct arena *scratch = arena_new(NULL);
    struct run_ref *runs;
    size_t position = 0, count;
    struct slice wanted = slice_str(v->opts->tenant);
    *holds = v->opts->tenant == NULL;
    int rc = *holds ? 0 : segment_open(v->session->store, info->name, info, &segment, err);
    while (rc == 0 && !*holds &&
           (rc = segment_page(segment, &position, scratch, &runs, &count, err)) == 0) {
        for (size_t i = 0; i < count; i++)
            *holds = *holds || runs[i].id.tenant.scope == SCOPE_TOMBSTONES ||
                     slice_compare(runs[i].id.tenant.key, wanted) == 0;
    }
    segment_close(segment);
    arena_free(scratch);
    return rc < 0 ? rc : 0;
}

/* Damage is a finding; a store that does not answer is a failure. */
static int
verify_segment(struct verifier *v, const struct segment_info *info, struct pgs_err *err)
{
    bool holds = true;
    int rc = holds_tenant(v, info, &holds, err);
    if (rc == 0 && holds)
        rc = segment_verify(v->session->store, info, err);
    if (rc < 0 && err->kind != PGS_E_CORRUPT && err->kind != PGS_E_REFUSED)
        return rc;
    if (rc < 0)
        verify_problem_add(v->arena, v->result, slice_str(info->name), err->message);
    if (holds) {
        v->result->segments++;
        v->result->versions += info->version_count;
        v->result->bytes += info->size;
    }
    return 0;
}

/* The log ends where a number is missing; an entry behind that place shows that one was lost. */
static int
find_lost_entry(void *context, const char *name, const struct store_stat *stat, struct pgs_err *err)
{
    struct verifier *v = context;
    (void)stat;
    (void)err;
    verify_problem_add(v->arena, v->result,
                       slice_str(arena_printf(v->arena, "log/%020llu",
                                              (unsigned long long)v->result->entries + 1)),
                       arena_printf(v->arena, "log entry is missing, though %s is there", name));
    return PGS_NONE;
}

static int
verify_log_is_whole(struct verifier *v, struct pgs_err *err)
{
    const char *last =
        arena_printf(v->arena, "log/%020llu", (unsigned long long)v->result->entries);
    struct pgs_err newer;
    /* The archiver may have appended since: those are no lost ones. */
    if (archive_refresh(v->session->archive, &newer) == 0)
        return 0; /* it goes on: nothing is missing here */
    return store_list(v->session->store, "log/", last, find_lost_entry, v, err);
}

static int
verify_objects(struct verifier *v, struct pgs_err *err)
{
    const struct alog *log = archive_log(v->session->archive);
    int rc = 0;
    v->result->entries = alog_count(log);
    for (size_t i = 0; rc == 0 && i < alog_count(log); i++) {
        const struct log_entry *e = alog_entry(log, i);
        for (size_t j = 0; rc == 0 && j < e->segment_count; j++)
            rc = verify_segment(v, &e->segments[j], err);
    }
    if (rc == 0)
        rc = verify_log_is_whole(v, err);
    return rc;
}

int
verify_run(struct restore_session *s, const struct verify_opts *opts, struct arena *arena,
           struct verify_result *result, struct pgs_err *err)
{
    struct verify_result r = { 0 };
    struct verifier v = { .session = s, .opts = opts, .arena = arena, .result = &r };
    int rc = 0;
    if (opts->tenant != NULL) {
        struct tenant tenant = tenant_of(opts->tenant);
        rc = tenant_check(s->archive, &tenant, err);
    }
    if (rc == 0)
        rc = verify_objects(&v, err);
    if (rc == 0 && opts->live)
        rc = verify_live_run(s, opts->tenant, arena, &r, err);
    if (rc == 0)
        *result = r;
    return rc;
}

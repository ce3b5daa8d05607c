/* start.c: start-up checks and where the stream starts (DESIGN 4.2, 3).
 *
 *     once        server checks, archive id, store, the log
 *     a session   the slot: free, lost, made anew
 *                 who the server is: the same, a copy of it, promoted, or another one
 *                 the writer epoch, once
 *                 the archive's end against timeline and slot: go on, a gap, or a new era */
#include "archiver/internal.h"

#include "archiver/crash.h"
#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <stdio.h>
#include <stdlib.h>

#define SLOT_WAIT_MS 200

static int
refuse_findings(const struct findings *f, struct pgs_err *err)
{
    for (size_t i = 0; i < f->count; i++) {
        if (f->items[i].level != FINDING_ERROR)
            continue;
        (void)err_set(err, PGS_E_REFUSED, "%.*s", SLICE_PRINT(f->items[i].text));
        return err_hint(err, "%.*s", SLICE_PRINT(f->items[i].fix));
    }
    return 0;
}

static int
read_archive_id(struct archiver *a, struct pg_conn *c, struct pgs_err *err)
{
    struct slice id;
    int rc = settings_get(c, "archive_id", a->arena, &id, err);
    if (rc == PGS_NONE) {
        (void)err_set(err, PGS_E_NOT_FOUND, "this database is not set up");
        return err_hint(err, "run `pgstrata setup`");
    }
    if (rc == 0)
        snprintf(a->archive_id, sizeof(a->archive_id), "%.*s", SLICE_PRINT(id));
    return rc;
}

static int
open_database(struct archiver *a, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct findings findings = { 0 };
    int rc = pg_open(&a->opts_first.target, &(struct pg_open_opts){ .wires = &a->wires }, &c, err);
    if (rc == 0)
        rc = setup_check_server(c, a->arena, &findings, err);
    if (rc == 0)
        rc = refuse_findings(&findings, err);
    if (rc == 0)
        rc = setup_names_read(c, a->opts_first.setup.slot, &a->names, err);
    if (rc == 0)
        rc = read_archive_id(a, c, err);
    pg_close(c);
    return rc;
}

static int
open_archive(struct archiver *a, struct pgs_err *err)
{
    struct alog *log;
    int rc = store_open(a->opts_first.root_url, &a->root, err);
    if (rc == 0)
        rc = store_probe(a->root, err);
    if (rc == 0)
        rc = alog_store(a->root, a->archive_id, &a->store, err);
    if (rc == 0)
        rc = alog_open(a->store, a->archive_id, &log, err);
    if (rc == 0)
        publisher_init(&a->publisher, log);
    return rc;
}

int
start_open(struct archiver *a, struct pgs_err *err)
{
    int rc = open_database(a, err);
    return rc < 0 ? rc : open_archive(a, err);
}

/* --- who the server is --- */

static bool
may_take_over(const struct archiver *a)
{
    return a->opts_first.take_over && !a->taken_over;
}

static int
system_check(struct archiver *a, const struct log_entry *last, struct pgs_err *err)
{
    if (last == NULL || last->system_id == a->system_id || may_take_over(a))
        return 0;
    (void)err_set(err, PGS_E_REFUSED, "this server is not the archived one: its system id differs");
    (void)err_hint(err, "--take-over begins a new era, when the database was moved here");
    return err_code(err, "clone");
}

/* What tells a copy of the server: it goes on counting from an old heartbeat, or with another
 * process's nonce; or what the archive has was never written here. NULL: nothing. */
static const char *
clone_sign(const struct archiver *a, const struct heartbeat *beat, const struct log_entry *last)
{
    if (beat->counter < last->heartbeat.counter)
        return "its heartbeat is behind the archive's";
    if (last->heartbeat.counter != 0 && beat->counter == last->heartbeat.counter &&
        !slice_equal(slice_str(beat->nonce), last->heartbeat.nonce))
        return "its heartbeat is not the archive's";
    if (a->server_lsn < alog_end(a->publisher.log))
        return "its WAL ends before the archive does";
    return NULL;
}

static int
clone_check(struct archiver *a, struct pg_conn *c, const struct log_entry *last,
            struct heartbeat *beat, bool *is_clone, struct pgs_err *err)
{
    int rc = heartbeat_read(c, beat, err);
    *is_clone = false;
    if (rc < 0 || last == NULL || last->timeline != a->timeline || last->system_id != a->system_id)
        return rc;
    const char *sign = clone_sign(a, beat, last);
    *is_clone = sign != NULL;
    if (sign == NULL || may_take_over(a))
        return 0;
    (void)err_set(err, PGS_E_REFUSED, "this server is a copy of the archived one: %s", sign);
    (void)err_hint(err, "run `pgstrata setup` with another BACKUP_DIR for the copy; --take-over "
                        "if it replaces the original");
    return err_code(err, "clone");
}

/* Where the server left the timeline; 0: it was never on it. */
static pgs_lsn
timeline_end(const struct archiver *a, const struct timeline_switch *switches, size_t count,
             uint32_t timeline)
{
    for (size_t i = 0; i < count; i++) {
        if (switches[i].timeline == timeline)
            return switches[i].end;
    }
    return timeline == a->timeline ? UINT64_MAX : 0;
}

/* Up to where the archive tells of this server's own history: behind it another one was
 * archived. */
static int
shared_find(struct archiver *a, struct pg_conn *replication, pgs_lsn *shared, struct pgs_err *err)
{
    const struct alog *log = a->publisher.log;
    struct timeline_switch *switches;
    size_t count;
    pgs_lsn left = UINT64_MAX, found = 0;
    int rc =
        replication_timeline_history(replication, a->timeline, a->arena, &switches, &count, err);
    if (rc < 0)
        return rc;
    for (size_t i = alog_count(log); i-- > 0;) {
        const struct log_entry *e = alog_entry(log, i);
        pgs_lsn end = timeline_end(a, switches, count, e->timeline);
        end = end < left ? end : left;
        end = end < e->range.end ? end : e->range.end;
        found = end > found ? end : found;
        if (e->kind != LOG_ERA)
            continue;
        pgs_lsn fork = log_entry_fork(e);
        if (fork == 0) /* before it another server counted */
            break;
        left = fork < left ? fork : left;
    }
    *shared = found;
    return 0;
}

/* What a copy shares with the original: what was committed before the last heartbeat that both
 * have. 0: not known. */
static pgs_lsn
copy_shared(const struct archiver *a, const struct heartbeat *beat)
{
    const struct alog *log = a->publisher.log;
    const struct log_entry *first = NULL;
    for (size_t i = alog_count(log); i-- > 0;) {
        const struct log_entry *e = alog_entry(log, i);
        if (e->era != alog_last(log)->era)
            break;
        if (e->heartbeat.counter == beat->counter && beat->counter != 0 &&
            slice_equal(e->heartbeat.nonce, slice_str(beat->nonce)))
            first = e;
    }
    pgs_lsn shared = first != NULL ? first->range.begin : 0;
    return shared < a->server_lsn ? shared : a->server_lsn;
}

/* --- the slot --- */

struct slot_state {
    pgs_lsn confirmed;
    bool lost;
    bool active;
    char active_pid[16];
};

static int
slot_look(struct archiver *a, struct pg_conn *c, struct slot_state *state, struct pgs_err *err)
{
    struct pg_rows *rows = NULL;
    int rc = pg_query(c,
                      "SELECT confirmed_flush_lsn, active_pid, wal_status FROM "
                      "pg_replication_slots"
                      " WHERE slot_name = $1",
                      PG_PARAMS(a->names.slot), &rows, err);
    if (rc < 0)
        return rc;
    if (pg_rows_count(rows) == 0) {
        (void)err_set(err, PGS_E_NOT_FOUND, "slot %s does not exist", a->names.slot);
        rc = err_hint(err, "run `pgstrata setup`; what happened since is a gap "
                           "that a base closes");
    } else {
        const char *lsn = pg_cell(rows, 0, 0), *status = pg_cell(rows, 0, 2);
        const char *pid = pg_cell(rows, 0, 1);
        state->lost = status != NULL && strcmp(status, "lost") == 0;
        state->active = pid != NULL;
        snprintf(state->active_pid, sizeof(state->active_pid), "%s", pid != NULL ? pid : "");
        rc = lsn != NULL ? lsn_parse(lsn, &state->confirmed, err) : 0;
    }
    pg_rows_free(rows);
    if (rc == 0 && state->lost) {
        (void)err_set(err, PGS_E_REFUSED, "slot %s has lost WAL", a->names.slot);
        rc = err_hint(err, "drop it (pg_drop_replication_slot), run `pgstrata setup`: serve "
                           "records the gap and takes a base");
    }
    return rc;
}

/* Another sidecar may still hold the slot: it is waited for, by name. One that took our place
 * meanwhile is not: the archive tells. */
static int
slot_wait(struct archiver *a, struct pg_conn *c, struct slot_state *slot, struct pgs_err *err)
{
    for (bool told = false;; told = true) {
        int rc = slot_look(a, c, slot, err);
        if (rc == 0 && slot->active && alog_epoch(a->publisher.log) != 0)
            rc = alog_resume(a->publisher.log, err);
        if (rc < 0 || !slot->active)
            return rc;
        if (!told)
            diag_warn("slot_busy", DIAG(diag_str(DIAG_KEY_SLOT, a->names.slot)),
                      "the slot is in use by process %s: waiting", slot->active_pid);
        if (atomic_load(&a->stopping))
            return err_set(err, PGS_E_CANCELLED, "stop was requested");
        archiver_alive(a);
        archiver_pause(a, SLOT_WAIT_MS);
    }
}

/* --- the archive's end --- */

static int
append(struct archiver *a, struct log_entry *e, pgs_lsn end, struct pgs_err *err)
{
    e->range = (struct pgs_lsn_range){ end, end };
    e->system_id = a->system_id;
    e->timeline = a->timeline;
    e->time_min = e->time_max = PGS_TIME_NONE;
    int rc = alog_append(a->publisher.log, e, err);
    if (rc == 0)
        a->publisher.end = end;
    return rc;
}

/* What came between the archive's end and the slot's position is lost: it was never seen. */
static int
gap_record(struct archiver *a, pgs_lsn begin, pgs_lsn end, struct pgs_err *err)
{
    struct log_break gap = { 0, begin, end, slice_str("gap"),
                             slice_str("the slot was lost or made anew: changes "
                                       "in between were never seen") };
    struct log_entry e = { .kind = LOG_NOTE, .breaks = &gap, .break_count = 1 };
    diag_error("gap", DIAG(diag_lsn("begin", begin), diag_lsn("end", end)),
               "history has a gap; a base closes it");
    return append(a, &e, end, err);
}

/* `shared`: where the server's history and the archive's part. What the archive has behind it is
 * abandoned, and what came until the slot's position was never seen. 0: another server, whose
 * positions mean something else. */
static int
era_begin(struct archiver *a, const struct log_entry *last, pgs_lsn shared, pgs_lsn slot,
          const char *reason, struct pgs_err *err)
{
    pgs_lsn begin = slot > shared ? slot : shared;
    struct log_break left = { 0, shared, begin, slice_str("gap"),
                              slice_str("an era ended here: what came until the next one began was "
                                        "never seen") };
    struct log_entry e = { .kind = LOG_ERA,
                           .era = last->era + 1,
                           .reason = slice_str(reason),
                           .breaks = &left,
                           .break_count = shared != 0 };
    diag_warn("era",
              DIAG(diag_int(DIAG_KEY_ERA, e.era), diag_lsn(DIAG_KEY_LSN, begin),
                   diag_lsn("left", shared)),
              "%s", reason);
    return append(a, &e, begin, err);
}

/* The server's history goes on from the archive's end. */
static int
go_on(struct archiver *a, const struct slot_state *slot, const struct log_entry *last,
      struct pgs_err *err)
{
    struct log_entry e = { .kind = LOG_RANGE };
    if (slot->confirmed > a->publisher.end)
        return gap_record(a, a->publisher.end, slot->confirmed, err);
    /* A promoted standby: from here on positions are of its timeline. */
    return last->timeline != a->timeline ? append(a, &e, a->publisher.end, err) : 0;
}

static int
position_find(struct archiver *a, struct pg_conn *replication, const struct slot_state *slot,
              const struct heartbeat *clone, struct pgs_err *err)
{
    const struct log_entry *last = alog_last(a->publisher.log);
    struct log_entry first = { .kind = LOG_RANGE };
    pgs_lsn shared;
    if (a->publisher.end == 0)
        return append(a, &first, slot->confirmed, err);
    if (last->system_id != a->system_id)
        return era_begin(a, last, 0, slot->confirmed,
                         "the database moved to a server with a new system id", err);
    if (clone != NULL)
        return era_begin(a, last, copy_shared(a, clone), slot->confirmed,
                         "a copy of the server took over", err);
    if (last->timeline == a->timeline)
        return go_on(a, slot, last, err);
    int rc = shared_find(a, replication, &shared, err);
    if (rc < 0)
        return rc;
    return shared >= a->publisher.end ? go_on(a, slot, last, err)
                                      : era_begin(a, last, shared, slot->confirmed,
                                                  "the server's timeline left the archive's", err);
}

static int
epoch_take(struct archiver *a, struct pgs_err *err)
{
    struct alog *log = a->publisher.log;
    if (alog_epoch(log) != 0) {
        int rc = alog_resume(log, err);
        a->publisher.end = rc == 0 ? alog_end(log) : a->publisher.end;
        return rc;
    }
    /* Another writer may have gone on while we waited for the slot. */
    int rc = alog_refresh(log, err);
    if (rc < 0)
        return rc;
    a->publisher.end = alog_end(log);
    const struct log_entry *last = alog_last(log);
    rc = alog_take_epoch(log, last == NULL ? a->system_id : 0, last == NULL ? a->timeline : 0, err);
    if (rc == 0)
        diag_info("archive_open",
                  DIAG(diag_lsn(DIAG_KEY_LSN, a->publisher.end),
                       diag_int(DIAG_KEY_EPOCH, (int64_t)alog_epoch(log)),
                       diag_str(DIAG_KEY_SLOT, a->names.slot)),
                  "archive %s", a->archive_id);
    return rc;
}

static int
session_position(struct archiver *a, struct pg_conn *c, struct pg_conn *replication,
                 struct pgs_err *err)
{
    struct slot_state slot = { 0 };
    struct heartbeat beat;
    bool is_clone = false;
    int rc = slot_wait(a, c, &slot, err);
    /* Before the epoch is taken: a copy must never fence the original's writer. */
    if (rc == 0)
        rc = system_check(a, alog_last(a->publisher.log), err);
    if (rc == 0)
        rc = clone_check(a, c, alog_last(a->publisher.log), &beat, &is_clone, err);
    crash_point("start.checked");
    if (rc == 0)
        rc = epoch_take(a, err);
    crash_point("start.epoch");
    if (rc == 0)
        rc = position_find(a, replication, &slot, is_clone ? &beat : NULL, err);
    if (rc < 0)
        return rc;
    crash_point("start.position");
    a->taken_over = a->opts_first.take_over;
    atomic_store(&a->era, alog_last(a->publisher.log)->era);
    durable_restart(&a->durable, a->publisher.end);
    return 0;
}

int
start_session(struct archiver *a, struct pg_conn *replication, struct pgs_err *err)
{
    struct pg_conn *c = NULL;
    struct server_identity id;
    int rc = replication_identify(replication, &id, err);
    if (rc == 0)
        rc = pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ .wires = &a->wires }, &c,
                     err);
    if (rc == 0) {
        a->system_id = id.system_id;
        a->timeline = id.timeline;
        a->server_lsn = id.flush_lsn;
        rc = session_position(a, c, replication, err);
    }
    pg_close(c);
    return rc;
}

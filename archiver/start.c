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
    int rc = pg_open(&a->opts_first.target, &(struct pg_open_opts){ 0 }, &c, err);
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
clone_check(struct archiver *a, struct pg_conn *c, const struct log_entry *last, bool *is_clone,
            struct pgs_err *err)
{
    struct heartbeat beat;
    int rc = heartbeat_read(c, &beat, err);
    *is_clone = false;
    if (rc < 0 || last == NULL || last->timeline != a->timeline || last->system_id != a->system_id)
        return rc;
    const char *sign = clone_sign(a, &beat, last);
    *is_clone = sign != NULL;
    if (sign == NULL || may_take_over(a))
        return 0;
    (void)err_set(err, PGS_E_REFUSED, "this server is a copy of the archived one: %s", sign);
    (void)err_hint(err, "run `pgstrata setup` with another BACKUP_DIR for the copy; --take-over "
                        "if it replaces the original");
    return err_code(err, "clone");
}

/* Whether the archive's end lies on the way to the server's timeline. */
static int
timeline_check(struct archiver *a, struct pg_conn *replication, const struct log_entry *last,
               bool *diverged, struct pgs_err *err)
{
    struct timeline_switch *switches;
    size_t count;
    bool on_the_way = a->timeline == last->timeline;
    *diverged = false;
    if (on_the_way)
        return 0;
    int rc =
        replication_timeline_history(replication, a->timeline, a->arena, &switches, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (switches[i].timeline == last->timeline)
            on_the_way = a->publisher.end <= switches[i].end;
    }
    *diverged = !on_the_way;
    return rc;
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

static int
era_begin(struct archiver *a, const struct log_entry *last, pgs_lsn begin, const char *reason,
          struct pgs_err *err)
{
    struct log_entry e = { .kind = LOG_ERA, .era = last->era + 1, .reason = slice_str(reason) };
    diag_warn("era", DIAG(diag_int(DIAG_KEY_ERA, e.era), diag_lsn(DIAG_KEY_LSN, begin)), "%s",
              reason);
    return append(a, &e, begin, err);
}

static int
position_find(struct archiver *a, struct pg_conn *replication, const struct slot_state *slot,
              const struct log_entry *last, bool is_clone, struct pgs_err *err)
{
    bool diverged;
    if (a->publisher.end == 0) {
        struct log_entry first = { .kind = LOG_RANGE };
        return append(a, &first, slot->confirmed, err);
    }
    if (last->system_id != a->system_id)
        return era_begin(a, last, slot->confirmed,
                         "the database moved to a server with a new system id", err);
    int rc = timeline_check(a, replication, last, &diverged, err);
    if (rc < 0)
        return rc;
    if (diverged || is_clone)
        return era_begin(a, last, slot->confirmed,
                         is_clone ? "a copy of the server took over"
                                  : "the server's timeline left the archive's",
                         err);
    return slot->confirmed > a->publisher.end
               ? gap_record(a, a->publisher.end, slot->confirmed, err)
               : 0;
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
    bool is_clone = false;
    int rc = slot_wait(a, c, &slot, err);
    /* Before the epoch is taken: a copy must never fence the original's writer. */
    if (rc == 0)
        rc = system_check(a, alog_last(a->publisher.log), err);
    if (rc == 0)
        rc = clone_check(a, c, alog_last(a->publisher.log), &is_clone, err);
    crash_point("start.checked");
    if (rc == 0)
        rc = epoch_take(a, err);
    crash_point("start.epoch");
    if (rc == 0)
        rc = position_find(a, replication, &slot, alog_last(a->publisher.log), is_clone, err);
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
        rc = pg_open(&archiver_opts(a)->target, &(struct pg_open_opts){ 0 }, &c, err);
    if (rc == 0) {
        a->system_id = id.system_id;
        a->timeline = id.timeline;
        a->server_lsn = id.flush_lsn;
        rc = session_position(a, c, replication, err);
    }
    pg_close(c);
    return rc;
}

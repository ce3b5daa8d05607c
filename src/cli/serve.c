/* serve.c: `pgstrata serve`: the archiver as a service: signals, readiness, watchdog. */
#include "cli/commands.h"
#include "core/diag_keys.h"
#include "core/err.h"
#include "core/timefmt.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef PGS_HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

/* Without a sign of life from the archiver for this long the watchdog is no longer fed. */
#define LIFE_SIGN_MAX_US (INT64_C(60) * 1000 * 1000)
#define TICK_MS 500

struct service {
    struct cli *cli;
    struct archiver *archiver;
    pthread_t thread;
    sigset_t signals;
    struct arena *reloads; /* configurations of every SIGHUP: threads may still read an old one */
    bool ready_told;
    bool finished;         /* set before the thread is woken for the last time */
    pthread_mutex_t mutex; /* guards finished */
};

static void
notify(const char *state)
{
#ifdef PGS_HAVE_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}

static void
service_tick(struct service *s)
{
    struct archiver_health health;
    archiver_health(s->archiver, &health);
    if (health.streaming && !s->ready_told) {
        notify("READY=1\nSTATUS=streaming");
        s->ready_told = true;
    }
    if (clock_us() - health.progress_us < LIFE_SIGN_MAX_US)
        notify("WATCHDOG=1");
}

/* A configuration that cannot be read leaves the one in force. */
static void
service_reload(struct service *s)
{
    struct pgs_err err;
    struct config config;
    notify("RELOADING=1");
    if (config_read(&s->cli->flags, s->reloads, &config, &err) < 0) {
        diag_error("reload_failed", DIAG(diag_str(DIAG_KEY_ERROR, err.message)),
                   "configuration not reloaded; the old one stays in force");
        notify("READY=1");
        return;
    }
    struct archiver_opts *opts = arena_alloc_zero(s->reloads, sizeof(*opts));
    *opts = config_archiver_opts(&config);
    archiver_reload(s->archiver, opts);
    diag_configure(config.log_format, config.log_level);
    diag_info("reloaded", DIAG_NO_FIELDS, "configuration reloaded");
    notify("READY=1");
}

static bool
service_finished(struct service *s)
{
    pthread_mutex_lock(&s->mutex);
    bool finished = s->finished;
    pthread_mutex_unlock(&s->mutex);
    return finished;
}

/* Signals are taken here and nowhere else: no handler, no async-signal hazards. */
static void *
service_signals(void *context)
{
    struct service *s = context;
    struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
    while (!service_finished(s)) {
        int signal_number = sigtimedwait(&s->signals, NULL, &tick);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            diag_info("stopping", DIAG(diag_int(DIAG_KEY_SIGNAL, signal_number)),
                      "stop requested: flushing");
            notify("STOPPING=1");
            archiver_stop(s->archiver);
        } else if (signal_number == SIGHUP) {
            service_reload(s);
        }
        service_tick(s);
    }
    return NULL;
}

static int
service_run(struct service *s, struct pgs_err *err)
{
    if (pthread_create(&s->thread, NULL, service_signals, s) != 0)
        return err_set(err, PGS_E_FAILED, "cannot start the signal thread");
    int rc = archiver_run(s->archiver, err);
    pthread_mutex_lock(&s->mutex);
    s->finished = true;
    pthread_mutex_unlock(&s->mutex);
    (void)pthread_kill(s->thread, SIGUSR1);
    (void)pthread_join(s->thread, NULL);
    return rc;
}

static void
signals_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1); /* wakes the signal thread when the archiver has ended */
    (void)pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int
run_serve(struct cli *cli, struct pgs_err *err)
{
    struct archiver_opts opts = config_archiver_opts(&cli->config);
    struct service service = { .cli = cli, .mutex = PTHREAD_MUTEX_INITIALIZER };
    opts.no_initial_base = cli_given(cli, "no-initial-base");
    opts.take_over = cli_given(cli, "take-over");
    signals_block(&service.signals);
    service.reloads = arena_new(NULL);
    int rc = archiver_open(&opts, &service.archiver, err);
    if (rc == 0)
        rc = service_run(&service, err);
    archiver_close(service.archiver);
    arena_free(service.reloads);
    if (rc == 0)
        diag_info("stopped", DIAG_NO_FIELDS, "everything received is archived and confirmed");
    return rc;
}

const struct cli_command command_serve = {
    .name = "serve",
    .arguments = "",
    .summary = "archive every change, until told to stop",
    .details = "Runs in the foreground, logs to stderr. SIGTERM flushes, confirms and exits 0; "
               "SIGHUP reads the\n"
               "configuration again. With systemd it tells readiness and feeds the watchdog.",
    .examples = "  pgstrata serve\n  PGSTRATA_FLUSH_INTERVAL=1s pgstrata serve --log-format json",
    .options =
        (const struct cli_option[]){
            { "no-initial-base", 0, NULL,
              "stream at once, take bases only when asked (`pgstrata base`)" },
            { "take-over", 0, NULL, "go on although this server looks like a clone or a new one" },
            { 0 } },
    .run = run_serve,
};

#include "support/unit.h"

#include "core/diag.h"
#include "core/diag_keys.h"
#include "core/timefmt.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_MAX_BYTES 150000

/* In the place of stderr stands a socket that keeps each write(2) apart. */
struct capture {
    int ours, theirs, before;
};

static struct capture
capture_begin(void)
{
    struct capture c;
    int ends[2], room = LINE_MAX_BYTES;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    c.ours = ends[0];
    c.theirs = ends[1];
    c.before = dup(STDERR_FILENO);
    assert_int_equal(dup2(c.theirs, STDERR_FILENO), STDERR_FILENO);
    close(c.theirs);
    return c;
}

/* The next written line, or NULL. */
static const char *
capture_line(struct capture *c)
{
    static char line[LINE_MAX_BYTES + 1];
    ssize_t size = recv(c->ours, line, LINE_MAX_BYTES, MSG_DONTWAIT);
    if (size <= 0)
        return NULL;
    line[size] = '\0';
    return line;
}

static void
capture_end(struct capture *c)
{
    dup2(c->before, STDERR_FILENO);
    close(c->before);
    close(c->ours);
}

/* The line's text behind its time, which is checked and cannot be known. */
static const char *
after_time(const char *line, const char *prefix)
{
    char text[TIME_TEXT_MAX];
    assert_non_null(line);
    assert_memory_equal(line, prefix, strlen(prefix));
    size_t size = strlen(time_format_ms(time_now(), text));
    pgs_time time;
    struct pgs_err err;
    memcpy(text, line + strlen(prefix), size);
    text[size] = '\0';
    assert_int_equal(time_parse(text, &time, &err), 0);
    assert_true(time_now() - time < 60 * INT64_C(1000000));
    return line + strlen(prefix) + size;
}

#define FIELDS                                                                   \
    DIAG(diag_lsn(DIAG_KEY_LSN, 0x1234), diag_str(DIAG_KEY_SLOT, "pgstrata"),    \
         diag_str(DIAG_KEY_TENANT, "two words"), diag_int(DIAG_KEY_ROWS, -7),    \
         diag_str(DIAG_KEY_REASON, ""), diag_str(DIAG_KEY_ERROR, "say \"x=1\""), \
         diag_str(DIAG_KEY_HINT, NULL))

static void
text_is_for_people(void **state)
{
    struct capture c = capture_begin();
    (void)state;
    diag_configure(DIAG_TEXT, DIAG_LEVEL_INFO);
    diag_info("slot_started", FIELDS, "words \"and\" %d\nmore", 42);
    const char *line = capture_line(&c);
    capture_end(&c);
    assert_string_equal(after_time(line, ""),
                        " info  slot_started: words \"and\" 42\\nmore (lsn=0/1234 slot=pgstrata "
                        "tenant=\"two words\" rows=-7 reason=\"\" error=\"say \\\"x=1\\\"\" "
                        "hint=\"\")\n");
}

static void
json_is_for_programs(void **state)
{
    struct capture c = capture_begin();
    (void)state;
    diag_configure(DIAG_JSON, DIAG_LEVEL_INFO);
    diag_warn("slot_lag", FIELDS, "words \"and\" %d\nmore", 42);
    const char *line = capture_line(&c);
    capture_end(&c);
    assert_string_equal(after_time(line, "{\"time\":\""),
                        "\",\"level\":\"warn\",\"event\":\"slot_lag\",\"message\":\"words "
                        "\\\"and\\\" 42\\nmore\",\"lsn\":\"0/1234\",\"slot\":\"pgstrata\","
                        "\"tenant\":\"two words\",\"rows\":-7,\"reason\":\"\","
                        "\"error\":\"say \\\"x=1\\\"\",\"hint\":null}\n");
}

static void
lines_without_fields_have_none(void **state)
{
    struct capture c = capture_begin();
    (void)state;
    diag_configure(DIAG_TEXT, DIAG_LEVEL_INFO);
    diag_error("stopped", DIAG_NO_FIELDS, "words");
    const char *line = capture_line(&c);
    assert_string_equal(after_time(line, ""), " error stopped: words\n");
    diag_configure(DIAG_JSON, DIAG_LEVEL_INFO);
    diag_error("stopped", DIAG_NO_FIELDS, "words");
    line = capture_line(&c);
    capture_end(&c);
    assert_string_equal(after_time(line, "{\"time\":\""),
                        "\",\"level\":\"error\",\"event\":\"stopped\",\"message\":\"words\"}\n");
}

static void
only_the_wanted_levels_are_written(void **state)
{
    struct capture c = capture_begin();
    (void)state;
    diag_configure(DIAG_TEXT, DIAG_LEVEL_WARN);
    diag_debug("a", DIAG_NO_FIELDS, "x");
    diag_info("b", DIAG_NO_FIELDS, "x");
    bool quiet = capture_line(&c) == NULL;
    diag_warn("c", DIAG_NO_FIELDS, "x");
    bool warned = capture_line(&c) != NULL;
    diag_configure(DIAG_TEXT, DIAG_LEVEL_DEBUG);
    diag_debug("d", DIAG_NO_FIELDS, "x");
    bool debugged = capture_line(&c) != NULL;
    capture_end(&c);
    assert_true(quiet && warned && debugged);
}

/* A tenant's name comes from outside: it must not end a line, move a cursor or break JSON. */
static void
control_characters_are_spelt_out(void **state)
{
    static const char evil[] = "a\tb\r\n\x1b[2J\x7f\xc2\x9b\xff\xc3\xa9\xed\xa0\x80";
    const char *spelt = "a\\u0009b\\u000d\\n\\u001b[2J\\u007f\\u009b\xef\xbf\xbd\xc3\xa9"
                        "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
    struct capture c = capture_begin();
    (void)state;
    diag_configure(DIAG_JSON, DIAG_LEVEL_INFO);
    diag_info("e", DIAG(diag_str(DIAG_KEY_TENANT, evil)), "%s", evil);
    const char *line = capture_line(&c);
    assert_non_null(line);
    const char *first = strstr(line, spelt);
    assert_non_null(first);
    assert_non_null(strstr(first + 1, spelt));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    diag_configure(DIAG_TEXT, DIAG_LEVEL_INFO);
    diag_info("e", DIAG(diag_str(DIAG_KEY_TENANT, evil)), "%s", evil);
    line = capture_line(&c);
    capture_end(&c);
    assert_non_null(line);
    assert_non_null(strstr(line, spelt));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

/* However long its parts are, a line keeps its end. */
static void
long_values_are_cut_off(void **state)
{
    static char text[20000];
    struct capture c = capture_begin();
    (void)state;
    memset(text, 1, sizeof(text) - 1); /* each becomes \u0001 */
    diag_configure(DIAG_JSON, DIAG_LEVEL_INFO);
    diag_info("e",
              DIAG(diag_str("a", text), diag_str("b", text), diag_str("c", text),
                   diag_str("d", text), diag_str("e", text), diag_str("f", text),
                   diag_str("g", text), diag_str("h", text), diag_str("i", text),
                   diag_str("j", text), diag_str("k", text), diag_str("l", text),
                   diag_str("too_many", text)),
              "%s", text);
    const char *line = capture_line(&c);
    capture_end(&c);
    assert_non_null(line);
    assert_non_null(strstr(line, "...\",\"l\":\""));
    assert_null(strstr(line, "too_many"));
    assert_string_equal(line + strlen(line) - strlen("\\u0001...\"}\n"), "\\u0001...\"}\n");
}

static void
errno_stays(void **state)
{
    struct capture c = capture_begin();
    (void)state;
    close(STDERR_FILENO); /* nobody listens */
    errno = ENOSPC;
    diag_error("e", DIAG_NO_FIELDS, "x");
    int after = errno;
    capture_end(&c);
    assert_int_equal(after, ENOSPC);
}

static void *
write_lines(void *context)
{
    (void)context;
    for (int i = 0; i < 50; i++)
        diag_info("e", DIAG(diag_int(DIAG_KEY_ROWS, i)), "some words");
    return NULL;
}

static void
lines_of_threads_do_not_mix(void **state)
{
    struct capture c = capture_begin();
    pthread_t threads[2];
    size_t lines = 0, whole = 0;
    (void)state;
    diag_configure(DIAG_JSON, DIAG_LEVEL_INFO);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, NULL), 0);
    while (lines < 100) {
        const char *line = capture_line(&c);
        if (line == NULL) {
            sched_yield();
            continue;
        }
        lines++;
        whole += line[0] == '{' && strcmp(line + strlen(line) - 2, "}\n") == 0;
    }
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    capture_end(&c);
    assert_int_equal(whole, 100);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_for_people),
        cmocka_unit_test(json_is_for_programs),
        cmocka_unit_test(lines_without_fields_have_none),
        cmocka_unit_test(only_the_wanted_levels_are_written),
        cmocka_unit_test(control_characters_are_spelt_out),
        cmocka_unit_test(long_values_are_cut_off),
        cmocka_unit_test(errno_stays),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests_name("diag", tests, NULL, NULL);
}

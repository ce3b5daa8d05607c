/* time_fuzz.c: the parsers of what people type: times, LSNs, durations, sizes. What is accepted
 * must be written back to something that means the same; what is refused must leave the out
 * parameter alone. */
#include "core/err.h"
#include "core/timefmt.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define UNTOUCHED 77

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_refusal(int rc, bool untouched, const struct pgs_err *err)
{
    pgs_assert(rc == PGS_E_USAGE && untouched);
    pgs_assert(strlen(err->message) < PGS_ERR_MESSAGE_MAX && err->hint[0] != '\0');
}

static void
check_time(const char *text)
{
    struct pgs_err err;
    char written[TIME_TEXT_MAX];
    pgs_time time = UNTOUCHED, again = UNTOUCHED;
    int rc = time_parse(text, &time, &err);
    if (rc != 0) {
        check_refusal(rc, time == UNTOUCHED, &err);
        return;
    }
    /* An offset can lead out of the years 1 to 9999, which are what can be read. */
    time_format(time, written);
    if (written[0] != '-' && written[4] == '-' && memcmp(written, "0000", 4) != 0)
        pgs_assert(time_parse(written, &again, &err) == 0 && again == time);
}

static void
check_lsn(const char *text)
{
    struct pgs_err err;
    char written[LSN_TEXT_MAX];
    pgs_lsn lsn = UNTOUCHED, again = UNTOUCHED;
    int rc = lsn_parse(text, &lsn, &err);
    if (rc != 0) {
        check_refusal(rc, lsn == UNTOUCHED, &err);
        return;
    }
    pgs_assert(lsn_parse(lsn_format(lsn, written), &again, &err) == 0 && again == lsn);
}

static void
check_numbers(const char *text)
{
    struct pgs_err err;
    int64_t milliseconds = UNTOUCHED;
    uint64_t bytes = UNTOUCHED;
    char written[24];
    int rc = duration_parse(text, &milliseconds, &err);
    if (rc != 0)
        check_refusal(rc, milliseconds == UNTOUCHED, &err);
    else
        pgs_assert(milliseconds >= 0);
    rc = size_parse(text, &bytes, &err);
    if (rc != 0)
        check_refusal(rc, bytes == UNTOUCHED, &err);
    else
        pgs_assert(strlen(size_format(bytes, written)) < sizeof(written));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1); /* exactly so long: a read past the NUL is seen */
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_time(text);
    check_lsn(text);
    check_numbers(text);
    free(text);
    return 0;
}

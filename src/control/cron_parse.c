#include "control/cron.h"

#include "core/calendar.h"
#include "core/err.h"

struct field {
    const char *name;
    int min, max;
    const char *const *names; /* of min and up; NULL: none */
    int names_count;
};

static const char *const month_names[] = { "jan", "feb", "mar", "apr", "may", "jun",
                                           "jul", "aug", "sep", "oct", "nov", "dec" };
static const char *const weekday_names[] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELD_COUNT };

static const struct field fields[FIELD_COUNT] = {
    { "minute", 0, 59, NULL, 0 },
    { "hour", 0, 23, NULL, 0 },
    { "day of month", 1, 31, NULL, 0 },
    { "month", 1, 12, month_names, 12 },
    { "day of week", 0, 7, weekday_names, 7 },
};

/* One field being read. All that goes wrong is said once, at the first place. */
struct reader {
    const struct field *field;
    const char *p, *end;
    struct pgs_err *err;
};

#define WRONG(r, ...) err_field((r), err_set((r)->err, PGS_E_USAGE, __VA_ARGS__))

static int
err_field(const struct reader *r, int kind)
{
    (void)kind;
    return err_doing(r->err, "read the %s field \"%.*s\" of a schedule", r->field->name,
                     (int)(r->end - r->p), r->p);
}

static char
lower(char ch)
{
    return ch >= 'A' && ch <= 'Z' ? (char)(ch - 'A' + 'a') : ch;
}

static bool
is_digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

static bool
is_letter(char ch)
{
    return lower(ch) >= 'a' && lower(ch) <= 'z';
}

/* Digits from *p. Beyond every field where there are too many. */
static int
read_digits(const char **p, const char *end)
{
    int v = 0;
    for (; *p < end && is_digit(**p); (*p)++)
        v = v < 1000 ? v * 10 + (**p - '0') : v;
    return v;
}

static int
read_name(const struct reader *r, const char **p, int *value)
{
    const char *begin = *p, *end = begin;
    while (end < r->end && is_letter(*end))
        end++;
    int size = (int)(end - begin);
    for (int i = 0; i < r->field->names_count && size == 3; i++) {
        const char *name = r->field->names[i];
        if (lower(begin[0]) == name[0] && lower(begin[1]) == name[1] &&
            lower(begin[2]) == name[2]) {
            *p = end;
            *value = r->field->min + i;
            return 0;
        }
    }
    if (r->field->names == NULL)
        return WRONG(r, "it takes numbers, not \"%.*s\"", size, begin);
    return WRONG(r, "\"%.*s\" is no name; they are %s to %s", size, begin, r->field->names[0],
                 r->field->names[r->field->names_count - 1]);
}

static int
read_value(const struct reader *r, const char **p, int *value)
{
    if (*p < r->end && is_letter(**p))
        return read_name(r, p, value);
    if (*p == r->end || **p == ',')
        return WRONG(r, "a value is missing");
    if (!is_digit(**p))
        return WRONG(r, "\"%.1s\" has no meaning there", *p);
    int v = read_digits(p, r->end);
    if (v < r->field->min || v > r->field->max)
        return WRONG(r, "%d is not within %d to %d", v, r->field->min, r->field->max);
    *value = v;
    return 0;
}

struct range {
    int first, last, step;
};

static int
read_step(const struct reader *r, const char **p, struct range *range)
{
    if (*p == r->end || !is_digit(**p))
        return WRONG(r, "a step is a number");
    range->step = read_digits(p, r->end);
    if (range->step == 0)
        return WRONG(r, "a step of 0 never moves");
    /* The days of a week are seven, though Sunday has two numbers. */
    int count = r->field == &fields[WEEKDAY] ? 7 : r->field->max - r->field->min + 1;
    if (range->step > count)
        return WRONG(r, "a step of %d is beyond the %d values there are", range->step, count);
    return 0;
}

/* "*", "a", "a-b", each with "/n". */
static int
read_item(const struct reader *r, const char **p, struct range *range)
{
    bool single = false;
    int rc = 0;
    *range = (struct range){ r->field->min, r->field == &fields[WEEKDAY] ? 6 : r->field->max, 1 };
    if (*p < r->end && **p == '*') {
        (*p)++;
    } else {
        single = true;
        rc = read_value(r, p, &range->first);
    }
    if (rc == 0 && single && *p < r->end && **p == '-') {
        (*p)++;
        single = false;
        rc = read_value(r, p, &range->last);
        if (rc == 0 && r->field == &fields[WEEKDAY] && range->last == 0 && range->first > 0)
            range->last = 7; /* sat-sun */
        if (rc == 0 && range->last < range->first)
            return WRONG(r, "a range from %d down to %d; write it as two ranges", range->first,
                         range->last);
    }
    if (rc == 0 && *p < r->end && **p == '/') {
        (*p)++;
        if (single && range->first > range->last)
            range->last = range->first; /* 7/n */
        return read_step(r, p, range);
    }
    if (single)
        range->last = range->first;
    return rc;
}

static int
read_field(const struct reader *r, uint64_t *bits)
{
    const char *p = r->p;
    uint64_t found = 0;
    for (;;) {
        struct range range;
        int rc = read_item(r, &p, &range);
        if (rc < 0)
            return rc;
        for (int v = range.first; v <= range.last; v += range.step)
            found |= UINT64_C(1) << v;
        if (p == r->end)
            break;
        if (*p++ != ',')
            return WRONG(r, "\"%.1s\" has no meaning there", p - 1);
    }
    *bits = found;
    return 0;
}

static const char *
expand_alias(const char *text)
{
    static const struct {
        const char *alias, *fields;
    } aliases[] = {
        { "@yearly", "0 0 1 1 *" }, { "@annually", "0 0 1 1 *" }, { "@monthly", "0 0 1 * *" },
        { "@weekly", "0 0 * * 0" }, { "@daily", "0 0 * * *" },    { "@midnight", "0 0 * * *" },
        { "@hourly", "0 * * * *" },
    };
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcasecmp(text, aliases[i].alias) == 0)
            return aliases[i].fields;
    }
    return NULL;
}

static int
refuse(struct pgs_err *err, const char *cause)
{
    (void)err_set(err, PGS_E_USAGE, "schedule: %s", cause);
    return err_hint(err,
                    "write minute, hour, day of month, month and day of week, as \"0 2 * * *\" "
                    "or \"@daily\"");
}

/* Splits at spaces and tabs. The number of fields, FIELD_COUNT + 1 where there are more. */
static int
split(const char *text, struct reader readers[FIELD_COUNT])
{
    int count = 0;
    const char *p = text;
    for (;;) {
        p += strspn(p, " \t");
        if (*p == '\0' || count > FIELD_COUNT)
            return count;
        size_t size = strcspn(p, " \t");
        if (count < FIELD_COUNT) {
            readers[count].p = p;
            readers[count].end = p + size;
        }
        count++;
        p += size;
    }
}

/* Days of the month alone, of which no month that is set has any: February 30. */
static bool
never_fires(const struct cron *cron)
{
    for (int month = 1; month <= 12; month++) {
        uint32_t days = (UINT32_C(2) << calendar_days_in_month(2000, month)) - 2;
        if ((cron->months >> month & 1) != 0 && (cron->days & days) != 0)
            return false;
    }
    return !cron->weekdays_are_set;
}

static bool
is_star(const struct reader *r)
{
    return r->end - r->p == 1 && *r->p == '*';
}

int
cron_parse(const char *text, struct cron *cron, struct pgs_err *err)
{
    struct reader readers[FIELD_COUNT];
    uint64_t bits[FIELD_COUNT] = { 0 };
    if (strlen(text) > CRON_TEXT_MAX)
        return refuse(err, "longer than 100 bytes");
    text += strspn(text, " \t");
    if (text[0] == '@') {
        text = expand_alias(text);
        if (text == NULL)
            return refuse(err, "only @yearly, @annually, @monthly, @weekly, @daily, @midnight and "
                               "@hourly are known");
    }
    int count = split(text, readers);
    if (count != FIELD_COUNT)
        return refuse(err,
                      count < FIELD_COUNT ? "fewer than five fields" : "more than five fields");
    for (int i = 0; i < FIELD_COUNT; i++) {
        readers[i].field = &fields[i];
        readers[i].err = err;
        int rc = read_field(&readers[i], &bits[i]);
        if (rc < 0)
            return rc;
    }
    struct cron parsed = {
        .minutes = bits[MINUTE],
        .hours = (uint32_t)bits[HOUR],
        .days = (uint32_t)bits[DAY],
        .months = (uint16_t)bits[MONTH],
        .weekdays = (uint8_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f),
        .every_hour = *readers[HOUR].p == '*',
        .days_are_set = !is_star(&readers[DAY]),
        .weekdays_are_set = !is_star(&readers[WEEKDAY]),
    };
    if (never_fires(&parsed))
        return refuse(err, "none of its months has that day");
    *cron = parsed;
    return 0;
}

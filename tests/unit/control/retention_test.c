#include "support/unit.h"

#include "control/retention.h"
#include "core/err.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY (INT64_C(86400) * 1000000)

static int
arena_setup(void **state)
{
    *state = arena_new(NULL);
    return 0;
}

static int
arena_teardown(void **state)
{
    arena_free(*state);
    return 0;
}

/* A whole, completed backup, so many days before day 1000, which is now. */
static struct retention_backup
backup(const char *id, const char *parent, int days_old)
{
    return (struct retention_backup){ .id = id,
                                      .parent = parent,
                                      .status = BACKUP_COMPLETED,
                                      .time = (1000 - days_old) * DAY,
                                      .expires = PGS_TIME_NONE,
                                      .size = 10,
                                      .whole = true };
}

static const struct retention_policy month = { .now = 1000 * DAY, .days = 30 };

static struct retention_plan
decided(struct arena *arena, const struct retention_backup *backups, size_t count,
        const struct retention_policy *policy)
{
    struct pgs_err err;
    struct retention_plan plan;
    if (retention_decide(backups, count, policy, arena, &plan, &err) != 0)
        fail_msg("%s", err.message);
    return plan;
}

/* deletions: ids in order, with a space behind each. */
static void
assert_deletions(struct arena *arena, const struct retention_backup *backups, size_t count,
                 const struct retention_policy *policy, const char *deletions)
{
    struct retention_plan plan = decided(arena, backups, count, policy);
    const char *text = "";
    for (size_t i = 0; i < plan.deletions_count; i++)
        text = arena_printf(arena, "%s%s ", text, backups[plan.deletions[i]].id);
    assert_string_equal(text, deletions);
    assert_int_equal(plan.deletions_bytes, plan.deletions_count * 10);
}

static void
the_old_go_and_the_young_stay(void **state)
{
    const struct retention_backup backups[] = {
        backup("a", NULL, 31), backup("b", NULL, 30), backup("c", NULL, 90),
        backup("d", NULL, 0),  backup("e", NULL, -1), /* from a clock that runs ahead */
    };
    assert_deletions(*state, backups, COUNT(backups), &month, "c a ");
    assert_deletions(*state, NULL, 0, &month, "");
}

static void
the_last_good_one_stays_whatever_its_age(void **state)
{
    struct retention_backup backups[] = {
        backup("a", NULL, 400),
        backup("b", NULL, 300),
        backup("c", NULL, 200),
        backup("d", NULL, 100),
    };
    assert_deletions(*state, backups, COUNT(backups), &month, "a b c ");
    backups[3].damaged = true;
    assert_deletions(*state, backups, COUNT(backups), &month, "a b d ");
    backups[2].status = BACKUP_FAILED;
    assert_deletions(*state, backups, COUNT(backups), &month, "a c d ");
    backups[1].parent = "absent";
    assert_deletions(*state, backups, COUNT(backups), &month, "b c d ");
}

static void
as_many_stay_as_the_policy_says(void **state)
{
    const struct retention_backup backups[] = {
        backup("a", NULL, 400),
        backup("b", NULL, 300),
        backup("c", NULL, 200),
        backup("d", NULL, 100),
    };
    struct retention_policy policy = month;
    policy.keep_last = 3;
    assert_deletions(*state, backups, COUNT(backups), &policy, "a ");
    policy.keep_last = 9;
    assert_deletions(*state, backups, COUNT(backups), &policy, "");
}

static void
a_newer_backup_of_one_table_is_not_the_last_good_one(void **state)
{
    struct retention_backup backups[] = { backup("a", NULL, 200), backup("b", NULL, 100) };
    backups[1].whole = false;
    assert_deletions(*state, backups, 2, &month, "b ");
    backups[0].damaged = true;
    assert_deletions(*state, backups, 2, &month, "a ");
}

static void
what_a_kept_one_stands_on_stays(void **state)
{
    struct retention_backup backups[] = {
        backup("other", NULL, 99),  backup("full", NULL, 90),   backup("inc1", "full", 60),
        backup("inc2", "inc1", 20), backup("diff", "full", 50), backup("inc3", "diff", 40),
    };
    struct retention_plan plan = decided(*state, backups, COUNT(backups), &month);
    assert_deletions(*state, backups, COUNT(backups), &month, "inc3 diff other ");
    assert_string_equal(retention_reason_name(plan.verdicts[1].reason), "needed");
    assert_int_equal(plan.verdicts[1].needed_by, 3);
    assert_string_equal(retention_reason_name(plan.verdicts[3].reason), "last good");
    /* Also for one that is damaged: whoever keeps it may still read its parents. */
    backups[3].damaged = true;
    backups[0].time = 999 * DAY;
    assert_deletions(*state, backups, COUNT(backups), &month, "inc3 diff ");
}

static void
what_is_under_hold_stays_with_its_chain(void **state)
{
    struct retention_backup backups[] = {
        backup("full", NULL, 90),
        backup("inc1", "full", 80),
        backup("inc2", "inc1", 70),
        backup("new", NULL, 1),
    };
    assert_deletions(*state, backups, COUNT(backups), &month, "inc2 inc1 full ");
    backups[1].held = true;
    assert_deletions(*state, backups, COUNT(backups), &month, "inc2 ");
}

static void
what_a_job_works_on_stays_with_its_chain(void **state)
{
    struct retention_backup backups[] = {
        backup("full", NULL, 90),
        backup("inc1", "full", 80),
        backup("inc2", "inc1", 70),
        backup("new", NULL, 1),
    };
    backups[1].status = BACKUP_RUNNING;
    assert_deletions(*state, backups, COUNT(backups), &month, "inc2 ");
    backups[1].status = BACKUP_PENDING;
    assert_deletions(*state, backups, COUNT(backups), &month, "inc2 ");
    backups[1].status = BACKUP_CANCELLED;
    assert_deletions(*state, backups, COUNT(backups), &month, "inc2 inc1 full ");
}

static void
what_is_gone_counts_for_nothing(void **state)
{
    struct retention_backup backups[] = { backup("a", NULL, 90), backup("b", NULL, 80) };
    backups[1].status = BACKUP_EXPIRED;
    assert_deletions(*state, backups, 2, &month, "");
    struct retention_plan plan = decided(*state, backups, 2, &month);
    assert_string_equal(retention_reason_name(plan.verdicts[1].reason), "gone");
}

static void
each_may_have_an_expiry_of_its_own(void **state)
{
    struct retention_backup backups[] = { backup("a", NULL, 90), backup("b", NULL, 80),
                                          backup("c", NULL, 1) };
    struct retention_policy policy = { .now = month.now, .days = -1, .by_expiry = true };
    backups[0].expires = 1000 * DAY + 1;
    backups[1].expires = 1000 * DAY;
    assert_deletions(*state, backups, 3, &policy, "b ");
    policy.by_expiry = false;
    assert_deletions(*state, backups, 3, &policy, "");
    policy.days = 30;
    assert_deletions(*state, backups, 3, &policy, "a b ");
}

static void
extreme_days_and_times(void **state)
{
    struct retention_backup backups[] = { backup("a", NULL, 90), backup("b", NULL, 1) };
    struct retention_policy policy = { .now = month.now, .days = 0 };
    assert_deletions(*state, backups, 2, &policy, "a ");
    policy.days = INT64_MAX;
    assert_deletions(*state, backups, 2, &policy, "");
    policy.days = 30;
    backups[0].time = INT64_MIN;
    assert_deletions(*state, backups, 2, &policy, "a ");
    backups[0].time = INT64_MAX;
    policy.now = -2;
    assert_deletions(*state, backups, 2, &policy, "");
}

static void
circles_end_and_are_not_good(void **state)
{
    const struct retention_backup backups[] = {
        backup("a", "b", 50), backup("b", "a", 51),  backup("c", "c", 52),
        backup("d", "a", 53), backup("e", NULL, 99),
    };
    struct retention_plan plan = decided(*state, backups, COUNT(backups), &month);
    assert_int_equal(plan.deletions_count, 4);
    assert_int_equal(plan.verdicts[4].reason, RETENTION_KEEP_LAST);
}

static void
one_id_twice_is_an_error(void **state)
{
    const struct retention_backup backups[] = { backup("a", NULL, 50), backup("b", NULL, 51),
                                                backup("a", NULL, 52) };
    struct pgs_err err;
    struct retention_plan plan = { .deletions_count = 77 };
    assert_int_equal(retention_decide(backups, 3, &month, *state, &plan, &err), PGS_E_CORRUPT);
    assert_string_equal(err.message, "two backups have the id a");
    assert_int_equal(plan.deletions_count, 77);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_old_go_and_the_young_stay),
        cmocka_unit_test(the_last_good_one_stays_whatever_its_age),
        cmocka_unit_test(as_many_stay_as_the_policy_says),
        cmocka_unit_test(a_newer_backup_of_one_table_is_not_the_last_good_one),
        cmocka_unit_test(what_a_kept_one_stands_on_stays),
        cmocka_unit_test(what_is_under_hold_stays_with_its_chain),
        cmocka_unit_test(what_a_job_works_on_stays_with_its_chain),
        cmocka_unit_test(what_is_gone_counts_for_nothing),
        cmocka_unit_test(each_may_have_an_expiry_of_its_own),
        cmocka_unit_test(extreme_days_and_times),
        cmocka_unit_test(circles_end_and_are_not_good),
        cmocka_unit_test(one_id_twice_is_an_error),
    };
    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}

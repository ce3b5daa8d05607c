/* unit.h: cmocka, with the headers that it wants before it. */
#ifndef SUPPORT_UNIT_H
#define SUPPORT_UNIT_H

/* clang-format off: the order matters */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#define assert_slice_equal(actual, text)                       \
    do {                                                       \
        struct slice checked = (actual);                       \
        assert_non_null(checked.data);                         \
        assert_int_equal(checked.size, strlen(text));          \
        assert_memory_equal(checked.data, text, checked.size); \
    } while (0)

#endif

#include "core/random.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>

void
random_bytes(void *to, size_t size)
{
    uint8_t *p = to;
    while (size > 0) {
        ssize_t n = getrandom(p, size, 0);
        if (n < 0 && errno != EINTR)
            abort();
        p += n > 0 ? (size_t)n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
}

const char *
random_hex(char *text, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *bytes = (uint8_t *)text + size; /* the upper half, read before it is written over */
    random_bytes(bytes, size);
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = bytes[i];
        text[2 * i] = digits[byte >> 4];
        text[2 * i + 1] = digits[byte & 15];
    }
    text[2 * size] = '\0';
    return text;
}

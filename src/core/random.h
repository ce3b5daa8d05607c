/* random.h: bytes that nobody can predict, for ids, nonces and tokens. Thread-safe. */
#ifndef CORE_RANDOM_H
#define CORE_RANDOM_H

#include <stddef.h>

/* Cannot fail: where the kernel has none, the program stops. */
void random_bytes(void *to, size_t size);
/* `size` random bytes as 2 * size lower-case hex digits and a NUL. Returns text. */
const char *random_hex(char *text, size_t size);

#endif

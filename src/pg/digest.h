/* digest.h: SHA-256 for layers that may not see the library behind it. Pure, thread-safe. */
#ifndef PG_DIGEST_H
#define PG_DIGEST_H

#include "core/slice.h"

#define DIGEST_HEX_SIZE 65 /* 64 hex digits and NUL */

void digest_sha256_hex(struct slice bytes, char hex[DIGEST_HEX_SIZE]);

#endif

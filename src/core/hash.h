/* hash.h: a quick hash for tables in memory. Not for files, not against attackers. */
#ifndef CORE_HASH_H
#define CORE_HASH_H

#include "core/slice.h"

uint64_t hash_bytes(struct slice s, uint64_t seed);

#endif

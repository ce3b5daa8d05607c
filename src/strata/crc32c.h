/* crc32c.h: CRC-32C (Castagnoli), the checksum of small parts that are stored as they are. Finds
 * damage, not tampering. Pure, thread-safe. */
#ifndef STRATA_CRC32C_H
#define STRATA_CRC32C_H

#include "core/slice.h"

uint32_t crc32c(struct slice bytes);

#endif

/* crc32c.c: eight bytes a step, by tables of remainders (Kounavis and Berry's "slicing by 8").
 * tables[0] has the remainder of each byte by the reversed polynomial; tables[i] that of the byte
 * with i zero bytes behind it. */
#include "strata/crc32c.h"

#include <pthread.h>

#define POLYNOMIAL UINT32_C(0x82f63b78)
#define SLICES 8

static uint32_t tables[SLICES][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void
tables_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        tables[0][i] = crc;
    }
    for (size_t slice = 1; slice < SLICES; slice++) {
        for (size_t i = 0; i < 256; i++) {
            uint32_t crc = tables[slice - 1][i];
            tables[slice][i] = crc >> 8 ^ tables[0][crc & 0xff];
        }
    }
}

static uint32_t
step_8(uint32_t crc, const uint8_t *p)
{
    crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    return tables[7][crc & 0xff] ^ tables[6][crc >> 8 & 0xff] ^ tables[5][crc >> 16 & 0xff] ^
           tables[4][crc >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
           tables[0][p[7]];
}

uint32_t
crc32c(struct slice bytes)
{
    const uint8_t *p = bytes.data;
    size_t left = bytes.size;
    uint32_t crc = UINT32_MAX;
    (void)pthread_once(&tables_once, tables_fill);
    for (; left >= SLICES; left -= SLICES, p += SLICES)
        crc = step_8(crc, p);
    for (; left > 0; left--, p++)
        crc = crc >> 8 ^ tables[0][(crc ^ *p) & 0xff];
    return ~crc;
}

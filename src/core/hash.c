#include "core/hash.h"

/* Odd constants with well-spread bits: the fractional parts of the golden ratio and of sqrt(3). */
#define HASH_STEP UINT64_C(0x9e3779b97f4a7c15)
#define HASH_MIX UINT64_C(0xbb67ae8584caa73b)

static uint64_t
mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)(a ^ HASH_STEP) * (b ^ HASH_MIX);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t
load(const uint8_t *p, size_t size)
{
    uint64_t v = 0;
    memcpy(&v, p, size);
    return v;
}

uint64_t
hash_bytes(struct slice s, uint64_t seed)
{
    const uint8_t *p = s.data;
    size_t left = s.size;
    uint64_t h = mix(seed, s.size);
    for (; left >= sizeof(uint64_t); left -= sizeof(uint64_t), p += sizeof(uint64_t))
        h = mix(h, load(p, sizeof(uint64_t)));
    if (left > 0)
        h = mix(h, load(p, left));
    return mix(h, HASH_STEP);
}

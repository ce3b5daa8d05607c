#include "pg/digest.h"

#include "core/err.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>

void
digest_sha256_hex(struct slice bytes, char hex[DIGEST_HEX_SIZE])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    int done = EVP_Digest(bytes.data, bytes.size, digest, NULL, EVP_sha256(), NULL);
    pgs_assert(done == 1); /* fails only where the library cannot allocate or has no SHA-256 */
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

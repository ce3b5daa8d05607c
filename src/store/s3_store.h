/* s3_store.h: objects in a bucket of S3, or of a server that speaks its language.
 *
 * The object a/b/c is the key <prefix>a/b/c; s3_config.h tells what the URL says. Opening sends
 * nothing: a store that is down is found by the first call.
 *
 * Create-if-absent is If-None-Match: *, answered 412 when the name is taken. When an answer was
 * lost and the repetition finds the name taken, the object is read back: our own bytes mean that
 * the lost answer was a yes. So what fences must carry bytes that nobody else writes (log entries
 * have a nonce). With fencing=off a HEAD and a PUT stand for it, and two writers can both win.
 *
 * An upload is sent in parts of 8 MiB (more in very long ones: S3 takes 10,000 parts), one of them
 * in memory; what fits into one part is a single PUT. What a killed process leaves unfinished is
 * nobody's object but is paid for: give the bucket a rule that ends such uploads after some days.
 */
#ifndef STORE_S3_STORE_H
#define STORE_S3_STORE_H

#include "store/store.h"

PGS_CHECKED int s3_store_open(const char *url, struct store **store, struct pgs_err *err);

#endif

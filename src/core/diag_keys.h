/* diag_keys.h: the names of fields in messages, in one place, so that they stay stable. */
#ifndef CORE_DIAG_KEYS_H
#define CORE_DIAG_KEYS_H

#define DIAG_KEY_LSN "lsn"
#define DIAG_KEY_TENANT "tenant"
#define DIAG_KEY_TABLE "table"
#define DIAG_KEY_SEGMENT "segment"
#define DIAG_KEY_ENTRY "entry"
#define DIAG_KEY_ROWS "rows"
#define DIAG_KEY_BYTES "bytes"
#define DIAG_KEY_LAG_BYTES "lag_bytes"
#define DIAG_KEY_DURATION_MS "duration_ms"
#define DIAG_KEY_REASON "reason"
#define DIAG_KEY_ERROR "error"
#define DIAG_KEY_HINT "hint"
#define DIAG_KEY_SLOT "slot"
#define DIAG_KEY_ERA "era"
#define DIAG_KEY_EPOCH "epoch"
#define DIAG_KEY_SIGNAL "signal"

#endif

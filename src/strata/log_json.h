/* log_json.h: what encode and decode of log entries share. */
#ifndef STRATA_LOG_JSON_H
#define STRATA_LOG_JSON_H

#include "strata/log_entry.h"

#include <jansson.h>

bool log_kind_parse(const char *name, enum log_kind *kind);
/* 2 * size hex digits and NUL into text. */
void log_hex(const uint8_t *bytes, size_t size, char *text);

#endif

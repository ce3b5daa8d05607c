/* percent.h: text in URLs, %XX for what is not plain. Pure, thread-safe. */
#ifndef STORE_PERCENT_H
#define STORE_PERCENT_H

#include "core/buf.h"

/* Appends text with all but A-Z a-z 0-9 - . _ ~ as %XX; slashes stay where asked for. */
void percent_encode(struct buf *out, const char *text, bool keep_slashes);
/* In place, "+" as a space. False for what is no encoding, or hides a NUL; text is spoilt then. */
bool percent_decode(char *text);

#endif

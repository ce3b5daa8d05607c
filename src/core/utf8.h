/* utf8.h: finding out what is valid UTF-8, since JSON can carry nothing else. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include "core/slice.h"

/* Bytes of the character at the start of text (which ends with a NUL): 1 to 4, or 0 when they are
 * no valid UTF-8 (overlong forms, surrogates and values above U+10FFFF are not). A NUL has 1. */
size_t utf8_char_size(const char *text);
/* Puts '?' in the place of every byte that is not part of a valid character. */
void utf8_mend(char *text);

#endif

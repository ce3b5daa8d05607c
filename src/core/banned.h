/* banned.h: calls of libc that are never right here do not compile.
 *
 * Included by core/err.h and core/slice.h, so by every source. The headers that declare the calls
 * come first; each is then declared again as unavailable, which changes nothing for other headers
 * and makes any use of ours an error with the cure in its words. tests/style/check.py knows more
 * such calls (those whose prototypes differ between systems) and looks for them in the text. */
#ifndef CORE_BANNED_H
#define CORE_BANNED_H

#pragma GCC system_header /* declared twice on purpose */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__has_attribute)
#if __has_attribute(unavailable)
#define CORE_BANNED(cure) __attribute__((unavailable(cure)))
#endif
#endif
#ifndef CORE_BANNED
#define CORE_BANNED(cure) __attribute__((deprecated(cure))) /* gcc before 12 */
#endif

/* In parentheses, since some are macros as well. */
CORE_BANNED("no bound; use core/buf.h") char *(strcpy)(char *to, const char *from);
CORE_BANNED("no bound; use core/buf.h") char *(strcat)(char *to, const char *from);
CORE_BANNED("may leave no terminator; use snprintf")
char *(strncpy)(char *to, const char *from, size_t size);
CORE_BANNED("its bound is not the target's size; use core/buf.h")
char *(strncat)(char *to, const char *from, size_t size);
CORE_BANNED("no bound; use snprintf") int(sprintf)(char *to, const char *fmt, ...);
CORE_BANNED("no bound; use vsnprintf") int(vsprintf)(char *to, const char *fmt, va_list args);
CORE_BANNED("hidden state shared by threads") char *(strtok)(char *text, const char *separators);
CORE_BANNED("shared buffer; use err_set_errno") char *(strerror)(int number);
CORE_BANNED("cannot fail; use strtoull with errno") int(atoi)(const char *text);
CORE_BANNED("cannot fail; use strtoull with errno") long(atol)(const char *text);
CORE_BANNED("cannot fail; use strtoull with errno") long long(atoll)(const char *text);
CORE_BANNED("cannot fail; use strtod with errno") double(atof)(const char *text);
CORE_BANNED("shared buffer; use core/timefmt.h") struct tm *(localtime)(const time_t *t);
CORE_BANNED("shared buffer; use core/timefmt.h") struct tm *(gmtime)(const time_t *t);
CORE_BANNED("shared buffer; use core/timefmt.h") char *(ctime)(const time_t *t);
CORE_BANNED("shared buffer; use core/timefmt.h") char *(asctime)(const struct tm *t);
CORE_BANNED("predictable; use getrandom") int(rand)(void);
CORE_BANNED("predictable; use getrandom") void(srand)(unsigned seed);
CORE_BANNED("a race; use mkstemp") char *(mktemp)(char *pattern);
CORE_BANNED("a race; use mkstemp") char *(tmpnam)(char *name);
CORE_BANNED("a shell between us and the program") int(system)(const char *command);
CORE_BANNED("a shell between us and the program")
FILE *(popen)(const char *command, const char *mode);

#endif

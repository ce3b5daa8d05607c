#include "pg/standby_names.h"

#include "core/buf.h"

#include <strings.h>

#define BETWEEN " \t\r\n\f\v,()"

/* Reads one name, number or keyword behind *p; in quotes, "" stands for one. */
static void
token_read(const char **p, struct buf *token)
{
    const char *c = *p;
    buf_reset(token);
    if (*c != '"') {
        size_t size = strcspn(c, BETWEEN "\"");
        buf_put(token, c, size);
        *p = c + size;
        return;
    }
    for (c++; *c != '\0'; c++) {
        if (*c == '"' && c[1] != '"') {
            c++;
            break;
        }
        c += *c == '"'; /* the first of two */
        buf_put_u8(token, (uint8_t)*c);
    }
    *p = c;
}

bool
standby_names_include(const char *names, const char *us)
{
    struct buf token = { 0 };
    bool found = false;
    for (const char *p = names + strspn(names, BETWEEN); *p != '\0' && !found;
         p += strspn(p, BETWEEN)) {
        token_read(&p, &token);
        found = strcmp(buf_cstr(&token), "*") == 0 || strcasecmp(buf_cstr(&token), us) == 0;
    }
    buf_release(&token);
    return found;
}

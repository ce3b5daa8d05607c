#include "core/utf8.h"

/* The lowest and highest second byte after a lead byte: narrower than 80..BF where the sequence
 * could else be overlong, a surrogate or too large (Unicode, table 3-7). */
static bool
second_is_valid(unsigned char lead, unsigned char second)
{
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return second >= low && second <= high;
}

size_t
utf8_char_size(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4 || !second_is_valid(p[0], p[1]))
        return 0;
    size_t size = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) /* also ends at the NUL */
            return 0;
    }
    return size;
}

void
utf8_mend(char *text)
{
    while (*text != '\0') {
        size_t size = utf8_char_size(text);
        if (size == 0)
            *text = '?';
        text += size == 0 ? 1 : size;
    }
}

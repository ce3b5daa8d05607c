#include "restore/csv.h"

static bool
needs_quotes(struct slice text)
{
    /* COPY ends at a line that is a backslash and a dot; and empty would be NULL. */
    if (text.size == 0 || slice_equal(text, slice_str("\\.")))
        return true;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != '\0' && strchr(",\"\r\n ", text.data[i]) != NULL)
            return true;
    }
    return false;
}

void
csv_put_field(struct buf *out, struct slice text)
{
    if (text.data == NULL)
        return;
    if (!needs_quotes(text)) {
        buf_put_slice(out, text);
        return;
    }
    buf_put_u8(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '"')
            buf_put_u8(out, '"');
        buf_put_u8(out, text.data[i]);
    }
    buf_put_u8(out, '"');
}

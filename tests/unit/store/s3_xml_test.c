#include "support/unit.h"

#include "core/err.h"
#include "store/s3_xml.h"

static int
object_append(void *context, const char *key, uint64_t size, const char *modified,
              struct pgs_err *err)
{
    (void)err;
    buf_printf(context, "%s=%llu@%s ", key, (unsigned long long)size, modified);
    return 0;
}

#define OBJECT(key, size)                                                \
    "<Contents><Key>" key "</Key><LastModified>2026-11-24T01:02:03.000Z" \
    "</LastModified><ETag>&quot;x&quot;</ETag><Size>" size "</Size>"     \
    "<Owner><ID>o</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"

static int
list(const char *document, struct buf *got, char token[XML_TOKEN_MAX], struct pgs_err *err)
{
    return xml_object_list(slice_str(document), object_append, got, token, err);
}

static void
a_page_gives_its_objects_and_the_next_token(void **state)
{
    char token[XML_TOKEN_MAX] = "before";
    struct pgs_err err;
    struct buf got = { 0 };
    (void)state;
    assert_int_equal(
        list("<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/\">"
             "<Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>n&amp;x"
             "</NextContinuationToken>" OBJECT("log%2F1", "12")
                 OBJECT("a+b%25", "0") "</ListBucketResult>",
             &got, token, &err),
        0);
    assert_string_equal(buf_cstr(&got),
                        "log/1=12@2026-11-24T01:02:03.000Z a b%=0@2026-11-24T01:02:03.000Z ");
    assert_string_equal(token, "n&x");
    assert_int_equal(list("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
                          &got, token, &err),
                     0);
    assert_string_equal(token, "");
    buf_release(&got);
}

static void
what_is_no_list_is_corrupt(void **state)
{
    static const char *const documents[] = {
        "",
        "no xml",
        "<html><body>hello</body></html>",
        "<ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult>" OBJECT("x", "") "</ListBucketResult>",
        "<ListBucketResult>" OBJECT("", "1") "</ListBucketResult>",
        "<ListBucketResult>" OBJECT("x", "-1") "</ListBucketResult>",
        "<ListBucketResult>" OBJECT("x", "99999999999999999999") "</ListBucketResult>",
        "<ListBucketResult>" OBJECT("x%0", "1") "</ListBucketResult>",
        "<ListBucketResult>" OBJECT("x%00", "1") "</ListBucketResult>",
        "<a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a>",
        "<!DOCTYPE a [<!ENTITY x \"yyyy\">]><ListBucketResult>&x;</ListBucketResult>",
    };
    struct buf got = { 0 };
    (void)state;
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        char token[XML_TOKEN_MAX] = "before";
        struct pgs_err err;
        assert_int_equal(list(documents[i], &got, token, &err), PGS_E_CORRUPT);
        assert_string_equal(token, "before");
    }
    assert_int_equal(got.size, 0);
    buf_release(&got);
}

static int
object_refuse(void *context, const char *key, uint64_t size, const char *modified,
              struct pgs_err *err)
{
    (void)size;
    (void)modified;
    ++*(int *)context;
    return err_set(err, PGS_E_CONFLICT, "not %s", key);
}

static void
who_walks_can_end_it(void **state)
{
    char token[XML_TOKEN_MAX];
    struct pgs_err err;
    int calls = 0;
    (void)state;
    assert_int_equal(xml_object_list(slice_str("<ListBucketResult>" OBJECT("x", "1")
                                                   OBJECT("y", "1") "</ListBucketResult>"),
                                     object_refuse, &calls, token, &err),
                     PGS_E_CONFLICT);
    assert_string_equal(err.message, "not x");
    assert_int_equal(calls, 1);
}

static void
errors_are_read_where_there_are_any(void **state)
{
    struct xml_s3_error e;
    (void)state;
    xml_s3_error(slice_str("<Error><Code>SlowDown</Code><Message>less</Message>"
                           "<Region>eu-west-1</Region><HostId>h</HostId></Error>"),
                 &e);
    assert_string_equal(e.code, "SlowDown");
    assert_string_equal(e.message, "less");
    assert_string_equal(e.region, "eu-west-1");
    xml_s3_error(slice_str("<html><Code>x</Code></html>"), &e);
    assert_string_equal(e.code, "");
    xml_s3_error(slice_str(""), &e);
    assert_string_equal(e.code, "");
}

static void
one_text_is_found(void **state)
{
    char text[8] = "kept";
    struct pgs_err err;
    struct slice document = slice_str("<a><b>one</b><b>two</b><c>much too long</c></a>");
    (void)state;
    assert_int_equal(xml_text(document, "a/d", text, sizeof(text), &err), PGS_NONE);
    assert_int_equal(xml_text(document, "a/c", text, sizeof(text), &err), PGS_NONE);
    assert_string_equal(text, "kept");
    assert_int_equal(xml_text(document, "a/b", text, sizeof(text), &err), 0);
    assert_string_equal(text, "one");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_gives_its_objects_and_the_next_token),
        cmocka_unit_test(what_is_no_list_is_corrupt),
        cmocka_unit_test(who_walks_can_end_it),
        cmocka_unit_test(errors_are_read_where_there_are_any),
        cmocka_unit_test(one_text_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

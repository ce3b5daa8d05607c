/* s3_sign_test.c: the signatures that Amazon publishes for its examples, with the keys of those. */
#include "support/unit.h"

#include "store/percent.h"
#include "store/s3_sign.h"

#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define EXAMPLE_S INT64_C(1369353600) /* 2013-05-24T00:00:00Z */

static const struct sign_keys keys = { "AKIAIOSFODNN7EXAMPLE",
                                       "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" };

static void
assert_signature(const struct sign_request *request, const char *signature)
{
    struct sign_scope scope = { "us-east-1", "s3", EXAMPLE_S };
    struct buf out = { 0 };
    sign_authorization(&out, request, &scope, &keys);
    const char *text = buf_cstr(&out);
    assert_true(strncmp(text,
                        "AWS4-HMAC-SHA256 "
                        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,",
                        84) == 0);
    assert_string_equal(text + out.size - 64, signature);
    buf_release(&out);
}

static void
a_range_is_signed_as_in_the_example(void **state)
{
    static const struct http_pair headers[] = {
        { "x-amz-date", "20130524T000000Z" },
        { "host", "examplebucket.s3.amazonaws.com" },
        { "x-amz-content-sha256", EMPTY_SHA256 },
        { "range", "bytes=0-9" },
    };
    (void)state;
    assert_signature(&(struct sign_request){ "GET", "/test.txt", "", headers, 4, EMPTY_SHA256 },
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void
an_object_is_signed_as_in_the_example(void **state)
{
    char payload[SIGN_SHA256_TEXT];
    struct buf path = { 0 };
    (void)state;
    percent_encode(&path, "/test$file.text", true);
    (void)sign_sha256(slice_str("Welcome to Amazon S3."), payload);
    const struct http_pair headers[] = {
        { "date", "Fri, 24 May 2013 00:00:00 GMT" },
        { "host", "examplebucket.s3.amazonaws.com" },
        { "x-amz-date", "20130524T000000Z" },
        { "x-amz-storage-class", "REDUCED_REDUNDANCY" },
        { "x-amz-content-sha256", payload },
    };
    assert_signature(&(struct sign_request){ "PUT", buf_cstr(&path), "", headers, 5, payload },
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    buf_release(&path);
}

static void
queries_are_signed_as_in_the_examples(void **state)
{
    static const struct http_pair headers[] = {
        { "host", "examplebucket.s3.amazonaws.com" },
        { "x-amz-content-sha256", EMPTY_SHA256 },
        { "x-amz-date", "20130524T000000Z" },
    };
    static const struct http_pair lifecycle[] = { { "lifecycle", "" } };
    static const struct http_pair list[] = { { "prefix", "J" }, { "max-keys", "2" } };
    struct buf query = { 0 };
    (void)state;
    sign_query(&query, lifecycle, 1);
    assert_string_equal(buf_cstr(&query), "lifecycle=");
    assert_signature(
        &(struct sign_request){ "GET", "/", buf_cstr(&query), headers, 3, EMPTY_SHA256 },
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    buf_reset(&query);
    sign_query(&query, list, 2);
    assert_string_equal(buf_cstr(&query), "max-keys=2&prefix=J");
    assert_signature(
        &(struct sign_request){ "GET", "/", buf_cstr(&query), headers, 3, EMPTY_SHA256 },
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    buf_release(&query);
}

static void
only_plain_characters_stay(void **state)
{
    static const struct http_pair pairs[] = { { "b", "a b/c+~" }, { "a", "\xc3\xa9" } };
    struct buf out = { 0 };
    (void)state;
    percent_encode(&out, "/a b/-._~+\xc3\xa9", true);
    assert_string_equal(buf_cstr(&out), "/a%20b/-._~%2B%C3%A9");
    buf_reset(&out);
    sign_query(&out, pairs, 2);
    assert_string_equal(buf_cstr(&out), "a=%C3%A9&b=a%20b%2Fc%2B~");
    buf_release(&out);
}

static void
what_is_no_encoding_is_not_decoded(void **state)
{
    static const char *const bad[] = { "%", "%4", "a%zz", "%00", "x%" };
    char text[16];
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "%s", bad[i]);
        assert_false(percent_decode(text));
    }
    snprintf(text, sizeof(text), "a%%2Fb+%%c3%%A9");
    assert_true(percent_decode(text));
    assert_string_equal(text, "a/b \xc3\xa9");
}

static void
dates_have_their_form(void **state)
{
    char text[SIGN_DATE_TEXT];
    (void)state;
    assert_string_equal(sign_date(EXAMPLE_S, text), "20130524T000000Z");
    assert_string_equal(sign_date(INT64_C(951827696), text), "20000229T123456Z");
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_signed_as_in_the_example),
        cmocka_unit_test(an_object_is_signed_as_in_the_example),
        cmocka_unit_test(queries_are_signed_as_in_the_examples),
        cmocka_unit_test(only_plain_characters_stay),
        cmocka_unit_test(what_is_no_encoding_is_not_decoded),
        cmocka_unit_test(dates_have_their_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

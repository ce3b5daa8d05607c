#include "support/unit.h"

#include "store/s3_config.h"
#include "core/err.h"

#include <stdlib.h>

static int
setup(void **state)
{
    static const char *const names[] = { "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL",
                                         "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE" };
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    return 0;
}

static struct s3_config
parsed(const char *url)
{
    struct s3_config c;
    struct pgs_err err;
    assert_int_equal(s3_config_parse(url, &c, &err), 0);
    return c;
}

static void
silence_means_amazon(void **state)
{
    struct s3_config c = parsed("s3://archive");
    (void)state;
    assert_string_equal(c.bucket, "archive");
    assert_string_equal(c.prefix, "");
    assert_string_equal(c.host, "s3.us-east-1.amazonaws.com");
    assert_string_equal(c.region, "us-east-1");
    assert_true(c.tls);
    assert_false(c.path_style);
    assert_false(c.unfenced);
    assert_string_equal(parsed("s3://archive?region=cn-north-1").host,
                        "s3.cn-north-1.amazonaws.com.cn");
}

static void
an_endpoint_of_ones_own_has_the_bucket_in_its_path(void **state)
{
    struct s3_config c = parsed("s3://archive/a/b/?endpoint=http%3A%2F%2F127.0.0.1%3A9000");
    (void)state;
    assert_string_equal(c.host, "127.0.0.1:9000");
    assert_string_equal(c.prefix, "a/b/");
    assert_false(c.tls);
    assert_true(c.path_style);
    c = parsed("s3://archive?endpoint=https://minio.example/&style=virtual");
    assert_string_equal(c.host, "minio.example");
    assert_false(c.path_style);
}

static void
a_bucket_with_dots_fits_no_certificate(void **state)
{
    (void)state;
    assert_true(parsed("s3://my.archive").path_style);
}

static void
the_environment_fills_what_the_url_leaves_open(void **state)
{
    (void)state;
    setenv("AWS_DEFAULT_REGION", "eu-south-2", 1);
    setenv("AWS_ENDPOINT_URL", "https://all.example", 1);
    assert_string_equal(parsed("s3://archive").region, "eu-south-2");
    assert_string_equal(parsed("s3://archive").host, "all.example");
    setenv("AWS_REGION", "sa-east-1", 1);
    setenv("AWS_ENDPOINT_URL_S3", "https://s3.example", 1);
    setenv("AWS_CA_BUNDLE", "/etc/ca.pem", 1);
    assert_string_equal(parsed("s3://archive").region, "sa-east-1");
    assert_string_equal(parsed("s3://archive").host, "s3.example");
    assert_string_equal(parsed("s3://archive").ca_file, "/etc/ca.pem");
    assert_string_equal(parsed("s3://archive?region=x1&ca_file=/c").region, "x1");
    assert_string_equal(parsed("s3://archive?region=x1&ca_file=/c").ca_file, "/c");
}

static void
the_last_of_two_options_counts(void **state)
{
    struct s3_config c = parsed("s3://archive?sse=AES256&fencing=off&sse=aws:kms&sse_kms_key=k&"
                                "storage_class=STANDARD_IA");
    (void)state;
    assert_string_equal(c.sse, "aws:kms");
    assert_string_equal(c.sse_kms_key, "k");
    assert_string_equal(c.storage_class, "STANDARD_IA");
    assert_true(c.unfenced);
}

static void
what_cannot_be_used_is_refused(void **state)
{
    static const char *const urls[] = {
        "s3://",
        "s3:///x",
        "s3://ab",
        "s3://UPPER",
        "s3://-a-b",
        "s3://archive/a b",
        "s3://archive/../x",
        "s3://archive?color=red",
        "s3://archive?region",
        "s3://archive?region=a/b",
        "s3://archive?endpoint=ftp://x",
        "s3://archive?endpoint=http://",
        "s3://archive?endpoint=http://user:secret@x",
        "s3://archive?endpoint=http://x/path",
        "s3://archive?endpoint=http://x%0d%0ay",
        "s3://archive?style=round",
        "s3://archive?sse=rot13",
        "s3://archive?sse_kms_key=k",
        "s3://archive?fencing=maybe",
        "s3://archive?storage_class=a%0ab",
        "s3://archive?sse=%zz",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        struct s3_config c;
        struct pgs_err err;
        bool harmless = strcmp(urls[i], "s3://archive?region") == 0; /* empty is silence */
        assert_int_equal(s3_config_parse(urls[i], &c, &err), harmless ? 0 : PGS_E_USAGE);
        assert_true(harmless || strstr(err.message, "secret") == NULL);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(silence_means_amazon, setup),
        cmocka_unit_test_setup(an_endpoint_of_ones_own_has_the_bucket_in_its_path, setup),
        cmocka_unit_test_setup(a_bucket_with_dots_fits_no_certificate, setup),
        cmocka_unit_test_setup(the_environment_fills_what_the_url_leaves_open, setup),
        cmocka_unit_test_setup(the_last_of_two_options_counts, setup),
        cmocka_unit_test_setup(what_cannot_be_used_is_refused, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

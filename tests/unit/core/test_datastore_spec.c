/* test_datastore_spec.c - every key of every kind is checked, and credentials are kept apart */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/str.h"
#include "core/datastore_spec.h"
#include <errno.h>
#include <string.h>

static int parse(const char *kind, const char *config, struct ty_datastore_spec *ret,
                 struct ty_error *err)
{
    CLEANUP_JSON json_t *j = NULL;

    if (ty_json_parse(config, strlen(config), &j, err) < 0)
        fail_msg("%s: %s", config, err->text);
    return ty_datastore_spec_parse(kind, j, ret, err);
}

static void test_good(void **state)
{
    static const struct {
        const char *kind, *config, *kept_as, *kept, *secrets, *credentials;
    } good[] = {
        { "file", "{\"root\":\"/data/x/\"}", "file", "{\"root\":\"/data/x\"}", "{}", "none" },
        { "file", "{\"root\":\"/\"}", "file", "{\"root\":\"/\"}", "{}", "none" },
        { "s3", "{\"bucket\":\"my.bucket-1\"}", "s3",
          "{\"bucket\":\"my.bucket-1\",\"region\":\"us-east-1\",\"path_style\":false}", "{}",
          "none" },
        { "s3",
          "{\"bucket\":\"b00\",\"prefix\":\"a/b/\",\"region\":\"eu-1\",\"endpoint\":\"http://[::1]:9000/\",\"path_style\":null,"
          "\"access_key_id\":\"AK\",\"secret_access_key\":\"s/+=\",\"session_token\":\"t\"}",
          "s3",
          "{\"bucket\":\"b00\",\"prefix\":\"a/b\",\"region\":\"eu-1\",\"endpoint\":\"http://[::1]:9000\",\"path_style\":true}",
          "{\"access_key_id\":\"AK\",\"secret_access_key\":\"s/+=\",\"session_token\":\"t\"}",
          "access_key" },
        { "azureblob",
          "{\"account_name\":\"acc\",\"container_name\":\"con\",\"account_key\":\"QUJD\",\"sas_token\":null,\"prefix\":\"\"}",
          "azureblob",
          "{\"account_name\":\"acc\",\"container_name\":\"con\",\"protocol\":\"https\",\"endpoint\":\"core.windows.net\"}",
          "{\"account_key\":\"QUJD\"}", "account_key" },
        { "azureblob",
          "{\"account_name\":\"devstoreaccount1\",\"container_name\":\"$root\",\"protocol\":\"http\","
          "\"endpoint\":\"http://127.0.0.1:10000/devstoreaccount1\",\"sas_token\":\"?sv=2021&sig=a%2Bb\"}",
          "azureblob",
          "{\"account_name\":\"devstoreaccount1\",\"container_name\":\"$root\",\"protocol\":\"http\","
          "\"endpoint\":\"http://127.0.0.1:10000/devstoreaccount1\"}",
          "{\"sas_token\":\"sv=2021&sig=a%2Bb\"}", "sas_token" },
        { "azurefile",
          "{\"root\":\"/mnt/share\",\"account_name\":\"acc\",\"file_share_name\":\"share\",\"account_key\":\"QUJD\"}",
          "file",
          "{\"root\":\"/mnt/share\",\"account_name\":\"acc\",\"file_share_name\":\"share\"}", "{}",
          "none" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CLEANUP_DATASTORE_SPEC struct ty_datastore_spec s = { 0 };
        struct ty_error err = { 0 };
        CLEANUP_FREE char *kept = NULL, *secrets = NULL;

        if (parse(good[i].kind, good[i].config, &s, &err) < 0)
            fail_msg("%s: %s", good[i].config, err.text);
        kept = ty_json_text(s.config);
        secrets = ty_json_text(s.secrets);
        assert_string_equal(s.kind, good[i].kept_as);
        assert_string_equal(kept, good[i].kept);
        assert_string_equal(secrets, good[i].secrets);
        assert_string_equal(s.credentials, good[i].credentials);
    }
}

#define AZ "\"account_name\":\"acc\",\"container_name\":\"con\""
static void test_refused(void **state)
{
    static const struct {
        const char *kind, *config, *says;
    } bad[] = {
        { "ftp", "{}", "'ftp' is no kind of datastore" },
        { "file", "[]", "not a JSON object" },
        { "file", "{}", "'root' is missing" },
        { "file", "{\"root\":\"data\"}", "an absolute path" },
        { "file", "{\"root\":\"/a/../b\"}", "without '..'" },
        { "file", "{\"root\":\"/a\\nb\"}", "no line break" },
        { "file", "{\"root\":\"/a\",\"bucket\":\"x\"}", "bucket" },
        { "file", "{\"root\":7}", "root" },
        { "s3", "{\"bucket\":\"Upper\"}", "'Upper' cannot be its 'bucket'" },
        { "s3", "{\"bucket\":\"ab\"}", "3 to 63" },
        { "s3", "{\"bucket\":\"a..b\"}", "no '..'" },
        { "s3", "{\"bucket\":\"-ab\"}", "begins and ends" },
        { "s3", "{\"bucket\":\"a/b\"}", "bucket" },
        { "s3", "{\"bucket\":\"abc\\n\"}", "bucket" },
        { "s3", "{\"bucket\":\"abc\",\"prefix\":\"a/../b\"}", "without empty parts" },
        { "s3", "{\"bucket\":\"abc\",\"prefix\":\"/a\"}", "prefix" },
        { "s3", "{\"bucket\":\"abc\",\"prefix\":\"a\\nb\"}", "no line break" },
        { "s3", "{\"bucket\":\"abc\",\"region\":\"a b\"}", "region" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"host:9000\"}", "https://host" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"http://u:p@host\"}", "without a user" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"http://host?x=1\"}", "a query" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"http:///x\"}", "endpoint" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"http://h/../x\"}", "endpoint" },
        { "s3", "{\"bucket\":\"abc\",\"endpoint\":\"http://h\\r\\nX: y\"}", "endpoint" },
        { "s3", "{\"bucket\":\"abc\",\"path_style\":1}", "path_style" },
        { "s3", "{\"bucket\":\"abc\",\"access_key_id\":\"A\"}", "'secret_access_key' is missing" },
        { "s3", "{\"bucket\":\"abc\",\"secret_access_key\":\"A\"}", "'access_key_id' is missing" },
        { "s3", "{\"bucket\":\"abc\",\"session_token\":\"A\"}", "without a key" },
        { "azureblob", "{\"container_name\":\"con\"}", "'account_name' is missing" },
        { "azureblob", "{\"account_name\":\"a-b\",\"container_name\":\"con\"}", "3 to 24" },
        { "azureblob", "{\"account_name\":\"acc\",\"container_name\":\"a--b\"}", "no '--'" },
        { "azureblob", "{" AZ ",\"protocol\":\"ftp\"}", "https or http" },
        { "azureblob", "{" AZ ",\"endpoint\":\"x/y\"}", "DNS suffix" },
        { "azureblob", "{" AZ ",\"account_key\":\"QUJD\",\"sas_token\":\"sig=x\"}", "give one" },
        { "azureblob", "{" AZ ",\"colour\":\"x\"}", "colour" },
        { "azurefile", "{\"account_name\":\"acc\",\"file_share_name\":\"share\"}", "mount it" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_datastore_spec s = { 0 };
        struct ty_error err = { 0 };

        if (parse(bad[i].kind, bad[i].config, &s, &err) != -EINVAL ||
            !strstr(err.text, bad[i].says))
            fail_msg("%s %s: %s", bad[i].kind, bad[i].config, err.text);
        assert_null(s.config);
    }
}

/* What cannot be a credential is refused without being shown. */
static void test_no_text_shows_a_credential(void **state)
{
    static const struct {
        const char *kind, *config;
    } bad[] = {
        { "s3", "{\"bucket\":\"abc\",\"access_key_id\":\"hush me\",\"secret_access_key\":\"x\"}" },
        { "s3",
          "{\"bucket\":\"abc\",\"access_key_id\":\"x\",\"secret_access_key\":\"hush\\nme\"}" },
        { "azureblob", "{" AZ ",\"account_key\":\"hush\\n\"}" },
        { "azureblob", "{" AZ ",\"account_key\":\"DefaultEndpointsProtocol=https;hush\"}" },
        { "azureblob", "{" AZ ",\"sas_token\":\"sv=hush\"}" },
        { "azureblob", "{" AZ ",\"sas_token\":\"https://x/?sig=hush\"}" },
        { "azurefile", "{\"root\":\"/m\",\"account_key\":\"hush \"}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ty_datastore_spec s = { 0 };
        struct ty_error err = { 0 };

        assert_int_equal(parse(bad[i].kind, bad[i].config, &s, &err), -EINVAL);
        if (strstr(err.text, "hush"))
            fail_msg("%s", err.text);
    }
}

static void test_access(void **state)
{
    CLEANUP_JSON json_t *config = json_pack("{s:s}", "bucket", "abc");
    CLEANUP_JSON json_t *secrets = json_pack("{s:s}", "secret_access_key", "x");
    CLEANUP_JSON json_t *access = ty_datastore_access("d", "s3", config, secrets);
    CLEANUP_FREE char *text = ty_json_text(access);

    (void)state;
    assert_string_equal(
        text,
        "{\"name\":\"d\",\"kind\":\"s3\",\"config\":{\"bucket\":\"abc\",\"secret_access_key\":\"x\"}}");
    assert_int_equal(json_object_size(config), 1);
    assert_true(ty_datastore_is_object("s3") && ty_datastore_is_object("azureblob"));
    assert_false(ty_datastore_is_object("file") || ty_datastore_is_object("azurefile") ||
                 ty_datastore_is_object("none"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_text_shows_a_credential),
        cmocka_unit_test(test_access),
    };

    return cmocka_run_group_tests_name("datastore_spec", tests, NULL, NULL);
}

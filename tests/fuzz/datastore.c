/* datastore.c - descriptions of datastores, as they come in over HTTP */
#include "base/error.h"
#include "core/datastore_spec.h"
#include "fuzz.h"
#include <assert.h>
#include <string.h>

void seed_datastore(struct corpus *c)
{
    corpus_text(c, "{\"kind\": \"file\", \"config\": {\"root\": \"/srv/data/\"}}");
    corpus_text(
        c,
        "{\"kind\": \"s3\", \"config\": {\"bucket\": \"a-b.c\", \"prefix\": \"x/y\", \"region\": \"eu-1\", \"endpoint\": "
        "\"https://h:9/p\", \"path_style\": true, \"access_key_id\": \"i\", \"secret_access_key\": \"k\", \"session_token\": \"t\"}}");
    corpus_text(
        c,
        "{\"kind\": \"azureblob\", \"config\": {\"account_name\": \"acc\", \"container_name\": \"con\", \"protocol\": \"http\", "
        "\"endpoint\": \"http://127.0.0.1:1/acc\", \"account_key\": \"QUJD\"}}");
    corpus_text(
        c,
        "{\"kind\": \"azureblob\", \"config\": {\"account_name\": \"acc\", \"container_name\": \"$root\", \"sas_token\": \"?sv=1&sig=x\"}}");
    corpus_text(
        c,
        "{\"kind\": \"azurefile\", \"config\": {\"root\": \"/mnt\", \"account_name\": \"acc\", \"file_share_name\": \"sss\"}}");
}

/* What is accepted is complete: parsed again it is the same; and no credential is among what everybody is shown. */
static void check_complete(const struct ty_datastore_spec *s)
{
    static const char *const hidden[] = { "access_key_id", "secret_access_key", "session_token",
                                          "account_key", "sas_token" };
    CLEANUP_JSON json_t *access = ty_datastore_access("d", s->kind, s->config, s->secrets);
    CLEANUP_DATASTORE_SPEC struct ty_datastore_spec again = { 0 };
    struct ty_error err = { 0 };

    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        assert(!json_object_get(s->config, hidden[i]));
    assert((strcmp(s->credentials, "none") == 0) == (json_object_size(s->secrets) == 0));
    assert(ty_datastore_spec_parse(s->kind, json_object_get(access, "config"), &again, &err) == 0);
    assert(json_equal(s->config, again.config) && json_equal(s->secrets, again.secrets));
}

bool parse_datastore(const char *bytes, size_t n)
{
    CLEANUP_DATASTORE_SPEC struct ty_datastore_spec s = { 0 };
    CLEANUP_JSON json_t *json = NULL;
    struct ty_error err = { 0 };
    const char *kind;
    int r = ty_json_parse(bytes, n, &json, &err);

    kind = r == 0 ? json_string_value(json_object_get(json, "kind")) : NULL;
    if (!kind)
        return false;
    r = ty_datastore_spec_parse(kind, json_object_get(json, "config"), &s, &err);
    if (r == 0)
        check_complete(&s);
    else
        assert(err.code == r && err.text[0]);
    return r == 0;
}

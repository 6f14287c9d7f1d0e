/* datastore_spec.c - the kinds of datastores, and the rules of their keys
 *
 * One table has every key of every kind: whether it is a credential, and its rule.  A rule gives NULL, or what a value has to
 * be; the sentence around it quotes the value unless that is a credential.
 */
#include "core/datastore_spec.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "core/ascii.h"
#include <errno.h>
#include <string.h>

/* ---- rules ---- */

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

/* Lower-case letters, digits and `also`; a letter or digit at both ends; from `min` to `max` of them. */
static bool is_label(const char *s, size_t min, size_t max, const char *also)
{
    size_t n = strlen(s);

    if (n < min || n > max || strchr(also, s[0]) || strchr(also, s[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_lower(s[i]) && !ty_ascii_digit(s[i]) && !strchr(also, s[i]))
            return false;
    return true;
}

static const char *rule_bucket(const char *v)
{
    return is_label(v, 3, 63, ".-") && !strstr(v, "..")
               ? NULL
               : "it has 3 to 63 lower-case letters, digits, '-' or '.', begins and ends with a letter "
                 "or digit, and has no '..'";
}

static const char *rule_region(const char *v)
{
    return *v && strlen(v) <= 63 && ty_ascii_only(v, "-_")
               ? NULL
               : "it has 1 to 63 letters, digits, '-' or '_', for example us-east-1";
}

static const char *rule_prefix(const char *v)
{
    for (const char *p = v; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return "it has no line break and no other control character";
    return strlen(v) <= 512 && ty_path_is_inside(v)
               ? NULL
               : "it is a relative path of at most 512 bytes, without empty parts, '.' and '..', and "
                 "without '/' at its ends";
}

/* scheme://host[:port][/path]: no user, no query, nothing that would need an escape. */
static const char *rule_url(const char *v)
{
    static const char *const text =
        "it is an address as https://host[:port][/path], without a user, "
        "a query and a '/' at its end";
    const char *host = ty_starts_with(v, "https://")  ? v + 8
                       : ty_starts_with(v, "http://") ? v + 7
                                                      : NULL;
    size_t n = host ? strcspn(host, "/") : 0;

    if (n == 0 || strlen(v) > 1024 || !ty_ascii_only(v, ":/.-_~[]%") || strstr(v, "..") ||
        strstr(host, "//") || ty_ends_with(v, "/"))
        return text;
    return host[0] == ':' || host[0] == '.' || host[0] == '-' ? text : NULL;
}

static const char *rule_azure_endpoint(const char *v)
{
    if (strstr(v, "://"))
        return rule_url(v);
    return is_label(v, 1, 253, ".-:") && !strstr(v, "..")
               ? NULL
               : "it is a DNS suffix as core.windows.net, or the whole address of the account as "
                 "http://127.0.0.1:10000/devstoreaccount1";
}

static const char *rule_account(const char *v)
{
    return is_label(v, 3, 24, "") ? NULL : "it has 3 to 24 lower-case letters or digits";
}

static const char *rule_container(const char *v)
{
    if (strcmp(v, "$root") == 0 || strcmp(v, "$web") == 0 || strcmp(v, "$logs") == 0)
        return NULL;
    return is_label(v, 3, 63, "-") && !strstr(v, "--")
               ? NULL
               : "it has 3 to 63 lower-case letters, digits or '-', begins and ends with a letter or "
                 "digit, and has no '--'";
}

static const char *rule_protocol(const char *v)
{
    return strcmp(v, "https") == 0 || strcmp(v, "http") == 0 ? NULL : "it is https or http";
}

static const char *rule_root(const char *v)
{
    for (const char *p = v; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return "it has no line break and no other control character";
    return *v == '/' && strlen(v) < 4096 && !strstr(v, "/../") && !ty_ends_with(v, "/..")
               ? NULL
               : "it is an absolute path without '..'";
}

static const char *rule_key_id(const char *v)
{
    return *v && strlen(v) <= 128 && is_printable(v)
               ? NULL
               : "it has 1 to 128 characters, without blanks and line breaks";
}

static const char *rule_secret(const char *v)
{
    return is_printable(v) ? NULL : "it has no blanks and line breaks";
}

static const char *rule_account_key(const char *v)
{
    size_t n = strlen(v), padding = 0;

    while (padding < 2 && n > padding && v[n - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i + padding < n; i++)
        if (!ty_ascii_alnum(v[i]) && v[i] != '+' && v[i] != '/')
            n = 1;
    return n >= 4 && n % 4 == 0
               ? NULL
               : "it is base64, as the portal of the storage account shows it (key1 or "
                 "key2, not the connection string)";
}

static const char *rule_sas(const char *v)
{
    bool signed_ = ty_starts_with(v, "sig=") || strstr(v, "&sig=");

    return signed_ && is_printable(v) && !strchr(v, '#') && !strstr(v, "://")
               ? NULL
               : "it is the part of a SAS address after the '?', with sig= in it";
}

/* ---- kinds ---- */

struct key {
    const char *name;
    const char *(*rule)(const char *value); /* NULL, or what the value has to be */
    bool must, secret, given_only;          /* given_only: checked, and not kept */
    const char *fallback;
};
#define KEYS_MAX 9
struct kind {
    const char *name, *kept_as;
    struct key keys[KEYS_MAX];
    bool object;
};
/* clang-format off */
static const struct kind kinds[] = {
    { "file", "file", {
        { "root", rule_root, .must = true },
        { "account_name", rule_account, .must = false }, /* of a file share that is mounted there */
        { "file_share_name", rule_container, .must = false } }, .object = false },
    { "s3", "s3", {
        { "bucket", rule_bucket, .must = true },
        { "prefix", rule_prefix, .must = false },
        { "region", rule_region, .fallback = "us-east-1" },
        { "endpoint", rule_url, .must = false },
        { "access_key_id", rule_key_id, .secret = true },
        { "secret_access_key", rule_secret, .secret = true },
        { "session_token", rule_secret, .secret = true } }, .object = true },
    { "azureblob", "azureblob", {
        { "account_name", rule_account, .must = true },
        { "container_name", rule_container, .must = true },
        { "prefix", rule_prefix, .must = false },
        { "protocol", rule_protocol, .fallback = "https" },
        { "endpoint", rule_azure_endpoint, .fallback = "core.windows.net" },
        { "account_key", rule_account_key, .secret = true },
        { "sas_token", rule_sas, .secret = true } }, .object = true },
    { "azurefile", "file", {
        { "root", rule_root, .must = false },
        { "account_name", rule_account, .must = false },
        { "file_share_name", rule_container, .must = false },
        { "protocol", rule_protocol, .given_only = true },
        { "endpoint", rule_azure_endpoint, .given_only = true },
        { "account_key", rule_account_key, .secret = true, .given_only = true },
        { "sas_token", rule_sas, .secret = true, .given_only = true } }, .object = false },
};
/* clang-format on */

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

bool ty_datastore_is_object(const char *kind)
{
    const struct kind *k = find_kind(kind);

    return k && k->object;
}

static int only_known(const struct kind *k, const char *what, const json_t *config,
                      struct ty_error *err)
{
    const char *known[KEYS_MAX + 2];
    int n = 0;

    for (const struct key *key = k->keys; key->name; key++)
        known[n++] = key->name;
    if (strcmp(k->name, "s3") == 0)
        known[n++] = "path_style";
    known[n] = NULL;
    return ty_json_only(config, what, known, err);
}

/* The value of a key as people give it: a '?' before a SAS is their browser's, a '/' at the end of a path or address
 * says nothing.  malloc'ed; NULL: out of memory. */
static char *tidy(const struct key *key, const char *value)
{
    bool path = key->rule == rule_prefix || key->rule == rule_url ||
                key->rule == rule_azure_endpoint || key->rule == rule_root;
    size_t n;

    if (key->rule == rule_sas && *value == '?')
        value++;
    n = strlen(value);
    while (path && n > 1 && value[n - 1] == '/')
        n--;
    return strndup(value, n);
}

static int check_value(const struct key *key, const char *what, const char *value,
                       struct ty_error *err)
{
    const char *rule =
        strlen(value) > TY_DATASTORE_VALUE_MAX ? "it is shorter than 8 KiB" : key->rule(value);

    if (!rule)
        return 0;
    if (key->secret)
        return ty_error_set(err, -EINVAL, "%s: what is given as '%s' cannot be one: %s", what,
                            key->name, rule);
    return ty_error_set(err, -EINVAL, "%s: '%.200s' cannot be its '%s': %s", what, value, key->name,
                        rule);
}

static int take_key(const struct key *key, const char *what, const json_t *config,
                    struct ty_datastore_spec *s, struct ty_error *err)
{
    const char *given = NULL;
    CLEANUP_FREE char *value = NULL;
    int r = ty_json_get_str(config, what, key->name, &given, err);

    if (r < 0)
        return r;
    if (!given || !*given)
        given = key->fallback;
    if (!given && key->must)
        return ty_error_set(err, -EINVAL, "%s: '%s' is missing", what, key->name);
    if (!given || (key->given_only && !*given))
        return 0;
    value = tidy(key, given);
    if (!value)
        return ty_error_oom(err);
    r = check_value(key, what, value, err);
    if (r < 0 || key->given_only)
        return r;
    return json_object_set_new(key->secret ? s->secrets : s->config, key->name,
                               json_string(value)) < 0
               ? ty_error_set(err, -EINVAL, "%s: '%s' is not UTF-8", what, key->name)
               : 0;
}

static bool has(const json_t *secrets, const char *key)
{
    return json_object_get(secrets, key) != NULL;
}

static int s3_rest(const char *what, const json_t *config, struct ty_datastore_spec *s,
                   struct ty_error *err)
{
    bool path_style = json_object_get(s->config, "endpoint") != NULL;
    bool id = has(s->secrets, "access_key_id"), key = has(s->secrets, "secret_access_key");
    int r = ty_json_get_bool(config, what, "path_style", &path_style, err);

    if (r < 0)
        return r;
    if (id != key)
        return ty_error_set(err, -EINVAL, "%s: '%s' is missing: a key has both parts", what,
                            id ? "secret_access_key" : "access_key_id");
    if (!key && has(s->secrets, "session_token"))
        return ty_error_set(err, -EINVAL, "%s: a 'session_token' is of no use without a key", what);
    s->credentials = key ? "access_key" : "none";
    return json_object_set_new(s->config, "path_style", json_boolean(path_style)) < 0
               ? ty_error_oom(err)
               : 0;
}

static int azure_rest(const char *what, struct ty_datastore_spec *s, struct ty_error *err)
{
    bool key = has(s->secrets, "account_key"), sas = has(s->secrets, "sas_token");

    if (key && sas)
        return ty_error_set(
            err, -EINVAL, "%s: there are both an 'account_key' and a 'sas_token'; give one", what);
    s->credentials = key ? "account_key" : sas ? "sas_token" : "none";
    return 0;
}

static int share_rest(const char *what, const struct ty_datastore_spec *s, struct ty_error *err)
{
    if (json_object_get(s->config, "root"))
        return 0;
    return ty_error_set(
        err, -EINVAL,
        "%s: an Azure file share is used where it is mounted: mount it (SMB) on every machine at the same "
        "path, and give that path as 'root'",
        what);
}

static int parse(const struct kind *k, const json_t *config, struct ty_datastore_spec *s,
                 struct ty_error *err)
{
    CLEANUP_FREE char *what = ty_strf("datastore of kind '%s'", k->name);
    int r = what ? only_known(k, what, config, err) : ty_error_oom(err);

    for (const struct key *key = k->keys; r == 0 && key->name; key++)
        r = take_key(key, what, config, s, err);
    if (r == 0 && strcmp(k->name, "s3") == 0)
        r = s3_rest(what, config, s, err);
    if (r == 0 && strcmp(k->name, "azureblob") == 0)
        r = azure_rest(what, s, err);
    if (r == 0 && strcmp(k->name, "azurefile") == 0)
        r = share_rest(what, s, err);
    return r;
}

int ty_datastore_spec_parse(const char *kind, const json_t *config, struct ty_datastore_spec *ret,
                            struct ty_error *err)
{
    const struct kind *k = find_kind(kind);
    struct ty_datastore_spec s = { .credentials = "none" };
    int r;

    if (!k)
        return ty_error_set(
            err, -EINVAL,
            "'%.80s' is no kind of datastore; there are file, s3, azureblob and azurefile", kind);
    if (!json_is_object(config))
        return ty_error_set(err, -EINVAL,
                            "datastore of kind '%s': its 'config' is not a JSON object", kind);
    s.kind = k->kept_as;
    s.config = json_object();
    s.secrets = json_object();
    r = s.config && s.secrets ? parse(k, config, &s, err) : ty_error_oom(err);
    if (r < 0)
        ty_datastore_spec_done(&s);
    else
        *ret = s;
    return r;
}

void ty_datastore_spec_done(struct ty_datastore_spec *s)
{
    json_decref(s->config);
    json_decref(s->secrets);
    *s = (struct ty_datastore_spec){ 0 };
}

json_t *ty_datastore_access(const char *name, const char *kind, const json_t *config,
                            const json_t *secrets)
{
    json_t *all = json_copy((json_t *)config);

    if (!all || (secrets && json_object_update(all, (json_t *)secrets) < 0)) {
        json_decref(all);
        return NULL;
    }
    return json_pack("{s:s s:s s:o}", "name", name, "kind", kind, "config", all);
}

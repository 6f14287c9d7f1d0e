/* env_spec.c - parsing of `environment`, and its canonical form */
#include "core/env_spec.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "environment"
#define TEXT_MAX 4096 /* bytes of one package, URL or word */
#define REQUIREMENT_MAX \
    65536 /* of one requirement with its hashes: a release may have hundreds of files */
#define SHM_MAX (1LL << 50)
#define IMAGE_ARGUMENTS_MAX 100

/* ---- texts ---- */

/* What pip, conda and podman are given as words of a command: nothing that is an option, or more than one line. */
static int check_text(const char *key, const char *text, size_t max, struct ty_error *err)
{
    size_t n = strlen(text);

    if (n == 0 || n > max)
        return ty_error_set(
            err, -EINVAL, WHAT ": %s is a text of 1 to %zu bytes, and %zu are given", key, max, n);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return ty_error_set(err, -EINVAL,
                                WHAT ": %s '%.80s' has a control character or line break in it; "
                                     "give one package, name or address only",
                                key, text);
    return 0;
}

static int check_word(const char *key, const char *text, struct ty_error *err)
{
    int r = check_text(key, text, TEXT_MAX, err);

    if (r == 0 && text[0] == '-')
        return ty_error_set(err, -EINVAL,
                            WHAT ": %s '%.80s' begins with '-' and would be taken for an option",
                            key, text);
    return r;
}

static int check_argument(const char *key, const char *text, struct ty_error *err)
{
    return check_text(key, text, TEXT_MAX, err);
}

/* "--hash=sha256:", and as many digits as that has. */
static bool is_hash(const char *word, size_t n)
{
    static const struct {
        const char *begin;
        size_t digits;
    } kinds[] = { { "--hash=sha256:", 64 }, { "--hash=sha384:", 96 }, { "--hash=sha512:", 128 } };

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t begin = strlen(kinds[i].begin);

        if (n == begin + kinds[i].digits && strncmp(word, kinds[i].begin, begin) == 0)
            return strspn(word + begin, "0123456789abcdefABCDEF") >= kinds[i].digits;
    }
    return false;
}

/* It may become a line of a file, in which pip takes options, too: those that it may have are hashes. */
static int check_requirement(const char *key, const char *text, struct ty_error *err)
{
    int r = check_text(key, text, REQUIREMENT_MAX, err);

    if (r < 0 || text[0] == '-')
        return r < 0 ? r : check_word(key, text, err);
    for (const char *p = strstr(text, " -"); p && *p;) {
        size_t n;

        p += strspn(p, " ");
        n = strcspn(p, " ");
        if (n > 0 && !is_hash(p, n))
            return ty_error_set(err, -EINVAL,
                                WHAT ": %s '%.80s': '%.*s' is no hash such as --hash=sha256:<64 "
                                     "digits>, and nothing else goes behind a package",
                                key, text, n > 100 ? 100 : (int)n, p);
        p += n;
    }
    return 0;
}

static int get_word(const json_t *o, const char *key, const char **ret, struct ty_error *err)
{
    int r = o ? ty_json_get_str(o, WHAT, key, ret, err) : 0;

    return r == 0 && *ret ? check_word(key, *ret, err) : r;
}

static int get_words(const json_t *o, const char *key, size_t max,
                     int (*check)(const char *key, const char *text, struct ty_error *err),
                     const char ***ret, struct ty_error *err)
{
    const json_t *list = json_object_get(o, key), *item;
    const char **v;
    size_t i, n = json_array_size(list);

    if (list && !json_is_null(list) && !json_is_array(list))
        return ty_error_set(err, -EINVAL, WHAT ": '%s' is not a list of texts", key);
    if (n > max)
        return ty_error_set(err, -EINVAL, WHAT ": '%s' has %zu entries, and may have %zu", key, n,
                            max);
    v = calloc(n + 1, sizeof *v);
    if (!v)
        return ty_error_oom(err);
    *ret = v;
    json_array_foreach (list, i, item) {
        const char *text = json_string_value(item);
        int r =
            !text ? ty_error_set(err, -EINVAL, WHAT ": entry %zu of '%s' is not a text", i + 1, key)
                  : check(key, text, err);

        if (r < 0)
            return r;
        v[i] = text;
    }
    return 0;
}

/* An object that may be missing; *ret NULL then. */
static int get_object(const json_t *o, const char *key, const char *const *known,
                      const json_t **ret, struct ty_error *err)
{
    const json_t *got = json_object_get(o, key);
    CLEANUP_FREE char *what = ty_strf(WHAT ", '%s'", key);

    *ret = NULL;
    if (!got || json_is_null(got))
        return 0;
    if (!json_is_object(got))
        return ty_error_set(err, -EINVAL, WHAT ": '%s' is not an object", key);
    *ret = got;
    return known ? ty_json_only(got, what ? what : WHAT, known, err) : 0;
}

/* ---- versions: digits, dots, comparisons; what pip and conda both understand ---- */

static int get_version(const json_t *o, const char *key, bool may_be_empty, const char **ret,
                       struct ty_error *err)
{
    int r = o ? ty_json_get_str(o, WHAT, key, ret, err) : 0;

    if (r < 0 || !*ret || (may_be_empty && !**ret))
        return r;
    r = check_word(key, *ret, err);
    if (r == 0 &&
        (*ret)[strspn(*ret,
                      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+*!=<>~, ")])
        return ty_error_set(err, -EINVAL,
                            WHAT ": %s '%.80s' is no version such as '3.8' or '>=3.9'", key, *ret);
    return r;
}

/* ---- the parts ---- */

static int get_conda(struct ty_env_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "packages", "channels", NULL };
    const json_t *o;
    int r = get_object(s->json, "conda", known, &o, err);

    if (r == 0)
        r = get_words(o, "packages", TY_ENV_PACKAGES_MAX, check_word, &s->conda, err);
    if (r == 0)
        r = get_words(o, "channels", TY_ENV_PACKAGES_MAX, check_word, &s->channels, err);
    return r;
}

static int get_pip(struct ty_env_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "packages",   "index_url",   "extra_index_urls",
                                         "find_links", "constraints", "pre",
                                         NULL };
    const json_t *o;
    int r = get_object(s->json, "pip", known, &o, err);

    if (r == 0)
        r = get_words(o, "packages", TY_ENV_PACKAGES_MAX, check_requirement, &s->pip, err);
    if (r == 0)
        r = get_words(o, "extra_index_urls", TY_ENV_PACKAGES_MAX, check_word, &s->extra_index_urls,
                      err);
    if (r == 0)
        r = get_words(o, "find_links", TY_ENV_PACKAGES_MAX, check_word, &s->find_links, err);
    if (r == 0)
        r = get_words(o, "constraints", TY_ENV_PACKAGES_MAX, check_requirement, &s->constraints,
                      err);
    if (r == 0 && o)
        r = get_word(o, "index_url", &s->index_url, err);
    if (r == 0 && o)
        r = ty_json_get_bool(o, WHAT ", 'pip'", "pre", &s->pre, err);
    return r;
}

static int get_shm(const json_t *o, struct ty_env_spec *s, struct ty_error *err)
{
    const char *text = NULL;
    char lower[32] = "";
    uint64_t n = 0;
    int r = get_word(o, "shm_size", &text, err);

    if (r < 0 || !text)
        return r;
    /* Docker's own way of writing: "2g", "512m", "64k", "b" at the end or not, powers of 1024. */
    for (size_t i = 0; text[i] && i < sizeof lower - 4; i++)
        lower[i] = (char)tolower((unsigned char)text[i]);
    size_t len = strlen(lower);
    if (len > 1 && lower[len - 1] == 'b' && !isdigit((unsigned char)lower[len - 2]))
        lower[--len] = '\0';
    if (len > 0 && strchr("kmgt", lower[len - 1]))
        memcpy(lower + len, "ib", sizeof "ib");
    for (char *c = lower; *c; c++)
        if (strchr("kmgt", *c))
            *c = (char)toupper((unsigned char)*c);
    len = strlen(lower);
    if (len > 1 && lower[len - 1] == 'b')
        lower[len - 1] = isdigit((unsigned char)lower[len - 2]) ? '\0' : 'B';
    if (ty_parse_bytes(lower, &n) < 0 || n == 0 || n > SHM_MAX)
        return ty_error_set(err, -EINVAL,
                            WHAT ": shm_size '%.80s' is no size such as '2g' or '512m'", text);
    s->shm_bytes = (int64_t)n;
    return 0;
}

static int get_image(struct ty_env_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "name",     "user",      "password_secret",
                                         "shm_size", "arguments", NULL };
    const json_t *o;
    const char *secret = NULL;
    bool sandbox = false;
    int r = get_object(s->json, "image", known, &o, err);

    if (r == 0)
        r = get_words(o, "arguments", IMAGE_ARGUMENTS_MAX, check_argument, &s->image_arguments,
                      err);
    if (r == 0 && s->json)
        r = ty_json_get_bool(s->json, WHAT, "sandbox", &sandbox, err);
    if (r == 0 && o)
        r = get_word(o, "name", &s->image, err);
    if (r == 0 && o)
        r = get_word(o, "user", &s->image_user, err);
    if (r == 0 && o)
        r = get_word(o, "password_secret", &secret, err);
    if (r == 0 && o)
        r = get_shm(o, s, err);
    if (r < 0)
        return r;
    if (o && !s->image)
        return ty_error_set(err, -EINVAL, WHAT ": 'image' has no 'name'");
    if (s->image && strpbrk(s->image, " \t'\"\\"))
        return ty_error_set(err, -EINVAL, WHAT ": '%.80s' cannot be the name of an image",
                            s->image);
    if (!s->image_user != !secret)
        return ty_error_set(
            err, -EINVAL,
            WHAT ": 'image' needs 'user' and 'password_secret' (the name of a secret) together");
    if (s->image && sandbox)
        return ty_error_set(
            err, -EINVAL,
            WHAT ": 'sandbox' is for runs without an 'image', which has files of its own");
    s->image_secret = secret;
    s->view = s->image ? TY_VIEW_IMAGE : sandbox ? TY_VIEW_SANDBOX : TY_VIEW_PLAIN;
    return 0;
}

/* What the user manages is used as it is. */
static int check_together(const struct ty_env_spec *s, struct ty_error *err)
{
    if (s->user_managed && s->lock)
        return ty_error_set(err, -EINVAL, WHAT ": 'user_managed' and 'lock' contradict each other");
    return 0;
}

static int get_all(struct ty_env_spec *s, struct ty_error *err)
{
    static const char *const known[] = { "name", "version", "python",      "conda",
                                         "pip",  "torch",   "torchvision", "user_managed",
                                         "lock", "image",   "sandbox",     NULL };
    int r = s->json ? ty_json_only(s->json, "the " WHAT, known, err) : 0;

    if (r == 0)
        r = get_word(s->json, "name", &s->name, err);
    if (r == 0)
        r = get_word(s->json, "version", &s->version, err);
    if (r == 0)
        r = get_version(s->json, "python", false, &s->python, err);
    if (r == 0)
        r = get_version(s->json, "torch", true, &s->torch, err);
    if (r == 0)
        r = get_version(s->json, "torchvision", true, &s->torchvision, err);
    if (r == 0 && s->json)
        r = ty_json_get_bool(s->json, WHAT, "user_managed", &s->user_managed, err);
    if (r == 0)
        r = get_object(s->json, "lock", NULL, &s->lock, err);
    if (r == 0)
        r = get_conda(s, err);
    if (r == 0)
        r = get_pip(s, err);
    if (r == 0)
        r = get_image(s, err);
    return r == 0 ? check_together(s, err) : r;
}

int ty_env_spec_parse(const json_t *json, struct ty_env_spec **ret, struct ty_error *err)
{
    struct ty_env_spec *s;
    int r;

    if (json && !json_is_null(json) && !json_is_object(json))
        return ty_error_set(err, -EINVAL, "'" WHAT "' is not an object");
    s = calloc(1, sizeof *s);
    if (!s)
        return ty_error_oom(err);
    s->json = json_is_object(json) ? json : NULL;
    r = get_all(s, err);
    if (r < 0) {
        ty_env_spec_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

struct ty_env_spec *ty_env_spec_free(struct ty_env_spec *s)
{
    if (s) {
        free(s->conda);
        free(s->channels);
        free(s->pip);
        free(s->extra_index_urls);
        free(s->find_links);
        free(s->constraints);
        free(s->image_arguments);
        free(s);
    }
    return NULL;
}

bool ty_env_spec_is_empty(const struct ty_env_spec *s)
{
    return !s->conda[0] && !s->pip[0] && !s->python && !s->torch && !s->torchvision && !s->lock &&
           s->view == TY_VIEW_PLAIN;
}

/* ---- the canonical form ---- */

/* The name at the front of a requirement as PEP 503 has it, the rest without blanks around comparisons. */
static char *canonical_package(const char *text)
{
    size_t n = 0;
    CLEANUP_STR struct ty_str out = { 0 };

    while (isalnum((unsigned char)text[n]) || (text[n] && strchr("-_.", text[n])))
        n++;
    if (strchr(text + n, '/') || strchr(text, '@')) { /* an address: as it is */
        ty_str_add(&out, text);
        return ty_str_take(&out);
    }
    for (size_t i = 0; i < n; i++) {
        char c = (char)tolower((unsigned char)text[i]);

        if (strchr("-_.", c)) {
            if (i > 0 && !strchr("-_.", text[i - 1]))
                ty_str_add(&out, "-");
        } else {
            ty_str_addn(&out, &c, 1);
        }
    }
    /* A marker behind ';' has words whose blanks count, and hashes are words. */
    for (const char *p = text + n; *p; p++) {
        if (*p == ';' || ty_starts_with(p, " --")) {
            ty_str_add(&out, p);
            break;
        }
        if (*p != ' ')
            ty_str_addn(&out, p, 1);
    }
    return ty_str_take(&out);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static json_t *canonical_list(const char **v, bool packages, bool sorted)
{
    json_t *list = json_array();
    size_t n = 0;
    char **texts;

    while (v[n])
        n++;
    texts = calloc(n + 1, sizeof *texts);
    for (size_t i = 0; texts && i < n; i++)
        if (!(texts[i] = packages ? canonical_package(v[i]) : strdup(v[i]))) {
            json_decref(list);
            list = NULL;
        }
    if (!texts) {
        json_decref(list);
        return NULL;
    }
    if (list && sorted)
        qsort(texts, n, sizeof *texts, by_bytes);
    for (size_t i = 0; list && i < n; i++)
        if (!sorted || i == 0 || strcmp(texts[i], texts[i - 1]) != 0)
            json_array_append_new(list, json_string(texts[i]));
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
    free(texts);
    return list;
}

static void set_text(json_t *o, const char *key, const char *text)
{
    if (text)
        json_object_set_new(o, key, json_string(text));
}

/* Only what is there; an empty list says nothing. */
static int set_list(json_t *o, const char *key, const char **v, bool packages, bool sorted)
{
    return v[0] ? json_object_set_new(o, key, canonical_list(v, packages, sorted)) : 0;
}

char *ty_env_spec_canonical(const struct ty_env_spec *s)
{
    CLEANUP_JSON json_t *o = json_object();
    int r = o ? 0 : -1;

    set_text(o, "python", s->python);
    set_text(o, "torch", s->torch);
    set_text(o, "torchvision", s->torchvision);
    set_text(o, "index_url", s->index_url);
    r |= set_list(o, "conda", s->conda, true, true);
    r |= set_list(o, "channels", s->channels, false, false);
    r |= set_list(o, "pip", s->pip, true, true);
    r |= set_list(o, "extra_index_urls", s->extra_index_urls, false, false);
    r |= set_list(o, "find_links", s->find_links, false, false);
    r |= set_list(o, "constraints", s->constraints, true, true);
    if (s->pre)
        r |= json_object_set_new(o, "pre", json_true());
    if (s->user_managed)
        r |= json_object_set_new(o, "user_managed", json_true());
    if (s->lock)
        r |= json_object_set_new(o, "lock", json_deep_copy(s->lock));
    if (s->image)
        set_text(o, "image", s->image);
    return r ? NULL : json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
}

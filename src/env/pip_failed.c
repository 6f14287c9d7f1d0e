/* pip_failed.c - what pip says when it cannot, in one sentence that helps
 *
 * Its "ERROR:" lines are the resolver's own words.  That an index does not answer stands in warnings alone, without the index's
 * name, and pip then goes on as if that index had nothing: it is found here, and is an error, for what comes from another index
 * may be another package of the same name.  That an index refuses us it does not say at all.
 */
#include "base/cleanup.h"
#include "env/env_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 2000
#define PYPI "https://pypi.org/simple"

/* Connected, and then nothing came for seconds: dead, or slow. */
static bool is_silent(const char *line)
{
    return strstr(line, "Retrying (Retry(total=") && strstr(line, "Read timed out");
}

bool env_pip_hopeless(const char *line)
{
    return strstr(line, "Retrying (Retry(total=0") || is_silent(line);
}

/* A line of `text` that holds `word`: its beginning, and its length in *n. */
static const char *line_with(const char *text, const char *word, size_t *n)
{
    const char *at = strstr(text, word);

    if (!at)
        return NULL;
    while (at > text && at[-1] != '\n')
        at--;
    *n = strcspn(at, "\n");
    return at;
}

static void add_line(struct ty_str *s, const char *line, size_t n)
{
    if (s->len >= WORDS_MAX)
        return;
    ty_str_add(s, s->len ? " " : "");
    ty_str_addn(s, line, n);
}

static void add_last_line(struct ty_str *s, const char *text)
{
    size_t end = strlen(text), begin;

    while (end > 0 && text[end - 1] == '\n')
        end--;
    for (begin = end; begin > 0 && text[begin - 1] != '\n'; begin--)
        ;
    ty_str_addn(s, text + begin, end - begin);
}

static bool is_about_hashes(const char *line)
{
    static const char *const begin[] = { "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
                                         "ERROR: Hashes are required", "ERROR: In --require-hashes",
                                         "ERROR: Can't verify hashes", NULL };

    for (const char *const *b = begin; *b; b++)
        if (ty_starts_with(line, *b))
            return true;
    return false;
}

/* pip's own "ERROR: ..." lines, and those warnings without which they mislead; else what it said last. */
static char *own_words(const char *text)
{
    static const struct {
        const char *begin;
        size_t skip;
    } lines[] = { { "ERROR: ", 7 },
                  { "error: ", 7 },     /* uv, compilers */
                  { "  \xc3\x97 ", 5 }, /* uv: a cross, and arrows to its causes */
                  { "  \xe2\x95\xb0\xe2\x94\x80\xe2\x96\xb6 ", 12 },
                  { "  \xe2\x94\x9c\xe2\x94\x80\xe2\x96\xb6 ", 12 },
                  { "WARNING: The repository located at", 9 } };
    CLEANUP_STR struct ty_str s = { 0 };
    bool hashes = false; /* which they are stands in the lines below */

    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");

        hashes = hashes ? *p == ' ' : is_about_hashes(p);
        if (hashes && *p == ' ')
            add_line(&s, p + strspn(p, " "), n - strspn(p, " "));
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
            if (ty_starts_with(p, lines[i].begin)) {
                add_line(&s, p + lines[i].skip, n - lines[i].skip);
                break;
            }
        p += n + (p[n] == '\n');
    }
    if (s.len == 0)
        add_last_line(&s, text);
    return ty_str_take(&s);
}

/* ---- which index ---- */

/* The host of an address: its beginning, and its length in *n. */
static const char *host_of(const char *url, size_t *n)
{
    const char *scheme = strstr(url, "://"), *host = scheme ? scheme + 3 : url, *at;
    size_t authority = strcspn(host, "/?#");

    for (at = host; at < host + authority; at++)
        if (*at == '@')
            host = at + 1;
    *n = strcspn(host, ":/?#");
    return host;
}

static bool is_named(const char *line, const char *url)
{
    CLEANUP_FREE char *host = NULL;
    size_t n;
    const char *begin = host_of(url, &n);

    host = strndup(begin, n);
    return host && *host && strstr(line, host);
}

static const char *first_index(const struct env_build *b)
{
    const char *usual = getenv("PIP_INDEX_URL");

    return b->q->spec->index_url ? b->q->spec->index_url : usual && *usual ? usual : PYPI;
}

/* The index whose host `line` names; NULL: none of ours. */
static const char *named_index(const struct env_build *b, const char *line)
{
    if (is_named(line, first_index(b)))
        return first_index(b);
    for (const char **u = b->q->spec->extra_index_urls; *u; u++)
        if (is_named(line, *u))
            return *u;
    return b->torch_index && is_named(line, b->torch_index) ? b->torch_index : NULL;
}

const char *env_pip_silent(const struct env_build *b, const struct env_said *said)
{
    const char *line = said->end.text ? strstr(said->end.text, "Retrying (Retry(total=") : NULL;
    CLEANUP_FREE char *one = line ? strndup(line, strcspn(line, "\n")) : NULL;

    return one && is_silent(one) ? named_index(b, one) : NULL;
}

/* The index that `line` is about, its password masked; where the line does not say, all that it may be. */
static char *index_of(const struct env_build *b, const char *line)
{
    const struct ty_env_spec *s = b->q->spec;
    const char *first = first_index(b), *named = named_index(b, line);
    CLEANUP_STR struct ty_str all = { 0 };

    if (named)
        return ty_env_mask(named);
    ty_str_add(&all, first);
    for (const char **u = s->extra_index_urls; *u; u++)
        ty_str_addf(&all, " or %s", *u);
    if (b->torch_index)
        ty_str_addf(&all, " or %s", b->torch_index);
    return all.failed ? NULL : ty_env_mask(all.text);
}

/* What a person wants of a warning that is full of a library's objects; else all of it. */
static char *cause_of(const char *line)
{
    static const struct {
        const char *holds, *means;
    } causes[] = {
        { "Connection refused", "connection refused" },
        { "Name or service not known", "its name is not known" },
        { "Temporary failure in name", "no name server answers" },
        { "Network is unreachable", "the network cannot be reached" },
        { "No route to host", "there is no route to it" },
        { "timed out", "it said nothing for seconds" },
        { "Remote end closed", "it closed the connection" },
        { "Connection reset", "it closed the connection" },
        { "certificate", "its certificate is not one of a known authority for that name" },
        { "ProxyError", "the proxy of http_proxy or https_proxy does not let us through" },
    };

    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++)
        if (strcasestr(line, causes[i].holds))
            return strdup(causes[i].means);
    return strdup(line);
}

static int unreachable(const struct env_build *b, const char *line, size_t n, struct ty_error *err)
{
    CLEANUP_FREE char *text = strndup(line, n);
    CLEANUP_FREE char *index = text ? index_of(b, text) : NULL,
                      *cause = text ? cause_of(text) : NULL;

    return ty_error_set(
        err, -ENETUNREACH,
        "cannot build the environment: the package index %s does not answer (%.200s). Environments that are in "
        "the cache need no index ('trainyard env ls' lists them), and a folder with wheels can be "
        "named in find_links",
        index ? index : "", cause ? cause : "");
}

/* Those that the specification or the job's variables name; what pip.conf says is pip's to know. */
static const char **named_indexes(const struct env_build *b)
{
    const char *first = first_index(b);
    size_t n = 0;
    const char **all, **u;

    for (u = b->q->spec->extra_index_urls; *u; u++)
        n++;
    all = calloc(n + 2, sizeof *all);
    if (!all)
        return NULL;
    n = 0;
    if (strcmp(first, PYPI) != 0)
        all[n++] = first;
    for (u = b->q->spec->extra_index_urls; *u; u++)
        all[n++] = *u;
    return all;
}

static bool is_refusal(const char *why)
{
    return why && (strcmp(why, "401") == 0 || strcmp(why, "403") == 0);
}

int env_pip_refused(struct env_build *b, int failed, struct ty_error *err)
{
    CLEANUP_JSON json_t *answer = NULL;
    const char **urls = NULL;
    struct ty_error lost;

    if (failed != -ENOENT || b->q->offline || !strstr(err->text, "(from versions: none)"))
        return failed;
    urls = named_indexes(b);
    if (urls && urls[0] && env_reached(b, urls, &answer, &lost) == 0)
        for (const char **u = urls; *u; u++) {
            const char *why = json_string_value(json_object_get(answer, *u));
            CLEANUP_FREE char *shown = is_refusal(why) ? ty_env_mask(*u) : NULL;
            CLEANUP_FREE char *words = shown ? strdup(err->text) : NULL;

            if (!words)
                continue;
            env_log(b, "the package index %s refuses us (%s)", shown, why);
            ty_error_set(
                err, failed,
                "%s. The package index %s refuses us (%s): check the user and the password in its address",
                words, shown, why);
        }
    free(urls);
    return failed;
}

int env_pip_failed(const struct env_build *b, const struct env_said *said, const char *doing,
                   struct ty_error *err)
{
    static const char *const lost[] = { "Could not fetch URL",           "Max retries exceeded",
                                        "Retrying (Retry(total=0",       "Read timed out",
                                        "error sending request for url", NULL };
    const char *text = said->end.text ? said->end.text : "", *line;
    CLEANUP_FREE char *words = own_words(text);
    size_t n;

    if (strstr(text, "No space left on device") || strstr(text, "os error 28") ||
        strstr(text, "Disk quota exceeded"))
        return ty_error_set(
            err, -ENOSPC,
            "cannot build the environment: the disk of '%s' is full; 'trainyard env gc' frees what "
            "no run uses",
            b->q->cache);
    for (const char *const *w = lost; *w; w++)
        if ((line = line_with(text, *w, &n)))
            return unreachable(b, line, n, err);
    return ty_error_set(err, -ENOENT, "cannot build the environment: %s failed: %s", doing,
                        words ? words : text);
}

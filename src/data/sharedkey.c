/* sharedkey.c - see sharedkey.h */
#include "data/sharedkey.h"
#include "base/error.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define MS_HEADERS_MAX 32

/* Thu, 26 Nov 2026 20:31:51 GMT, whatever the locale is. */
static void http_date(int64_t now_s, char text[32])
{
    static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t t = (time_t)now_s;
    struct tm tm = { 0 };

    gmtime_r(&t, &tm);
    snprintf(text, 32, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday % 100,
             months[tm.tm_mon], (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100,
             tm.tm_sec % 100);
}

static void add_small(struct ty_str *s, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];

        ty_str_addn(s, &c, 1);
    }
}

/* ---- headers ---- */

static int compare_headers(const void *a, const void *b)
{
    return strcasecmp((*(struct ty_http_header *const *)a)->name,
                      (*(struct ty_http_header *const *)b)->name);
}

/* "x-ms-date:Thu, ...\n" of each, sorted; blanks at the ends of a value go, those within become one. */
static void add_ms_headers(struct ty_str *s, const struct ty_http_req *r)
{
    const struct ty_http_header *list[MS_HEADERS_MAX];
    size_t n = 0;

    for (size_t i = 0; i < r->headers.n; i++)
        if (strncasecmp(r->headers.at[i].name, "x-ms-", 5) == 0) {
            s->failed |= n == MS_HEADERS_MAX;
            if (n < MS_HEADERS_MAX)
                list[n++] = &r->headers.at[i];
        }
    qsort(list, n, sizeof *list, compare_headers);
    for (size_t i = 0; i < n; i++) {
        const char *p = list[i]->value + strspn(list[i]->value, " \t");

        add_small(s, list[i]->name, strlen(list[i]->name));
        ty_str_add(s, ":");
        while (*p) {
            size_t word = strcspn(p, " \t"), blank = strspn(p + word, " \t");

            ty_str_addn(s, p, word);
            p += word + blank;
            if (blank && *p)
                ty_str_add(s, " ");
        }
        ty_str_add(s, "\n");
    }
}

/* ---- the resource ---- */

struct pair {
    char *name, *value; /* decoded; the name in small letters */
};

static int compare_pairs(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = strcmp(x->name, y->name);

    return c ? c : strcmp(x->value, y->value);
}

static int read_pair(const char *text, size_t n, struct pair *p)
{
    CLEANUP_STR struct ty_str name = { 0 };
    size_t nname = 0;

    while (nname < n && text[nname] != '=')
        nname++;
    add_small(&name, text, nname);
    p->name = ty_str_take(&name);
    p->value = nname < n ? strndup(text + nname + 1, n - nname - 1) : strdup("");
    if (!p->name || !p->value)
        return -ENOMEM;
    return ty_url_decode(p->name) < 0 || ty_url_decode(p->value) < 0 ? -EINVAL : 0;
}

/* "\nname:value" of each parameter, sorted; of one that comes again, "\nname:value,value". */
static int add_query(struct ty_str *s, const char *query)
{
    size_t max = 1, n = 0;
    struct pair *pairs;
    int w = 0;

    for (const char *p = query; *p; p++)
        max += *p == '&';
    pairs = calloc(max, sizeof *pairs);
    if (!pairs)
        return -ENOMEM;
    for (const char *p = query; *p && w == 0;) {
        size_t len = strcspn(p, "&");

        if (len > 0)
            w = read_pair(p, len, &pairs[n++]);
        p += len + (p[len] == '&');
    }
    if (w == 0)
        qsort(pairs, n, sizeof *pairs, compare_pairs);
    for (size_t i = 0; i < n; i++) {
        if (w == 0 && i > 0 && strcmp(pairs[i].name, pairs[i - 1].name) == 0)
            ty_str_addf(s, ",%s", pairs[i].value);
        else if (w == 0)
            ty_str_addf(s, "\n%s:%s", pairs[i].name, pairs[i].value);
    }
    for (size_t i = 0; i < n; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
    return w;
}

/* ---- all of it ---- */

char *ty_sharedkey_string(const char *account, const struct ty_http_req *r)
{
    static const char *const before[] = { "Content-Encoding", "Content-Language" };
    static const char *const after[] = { "Content-MD5",         "Content-Type", "Date",
                                         "If-Modified-Since",   "If-Match",     "If-None-Match",
                                         "If-Unmodified-Since", "Range" };
    CLEANUP_STR struct ty_str s = { 0 };
    const char *host = strstr(r->url, "://"), *path, *value;
    size_t n;

    ty_str_addf(&s, "%s\n", r->method);
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        ty_str_addf(&s, "%s\n", (value = ty_http_asked(r, before[i])) ? value : "");
    if (r->body_bytes > 0)
        ty_str_addf(&s, "%llu", (unsigned long long)r->body_bytes);
    ty_str_add(&s, "\n");
    for (size_t i = 0; i < sizeof after / sizeof *after; i++)
        ty_str_addf(&s, "%s\n", (value = ty_http_asked(r, after[i])) ? value : "");
    add_ms_headers(&s, r);
    host = host ? host + 3 : r->url;
    path = host + strcspn(host, "/?");
    n = strcspn(path, "?");
    ty_str_addf(&s, "/%s", account);
    ty_str_addn(&s, n ? path : "/", n ? n : 1);
    if (path[n] && add_query(&s, path + n + 1) < 0)
        return NULL;
    return ty_str_take(&s);
}

static int add_signature(struct ty_str *s, const struct ty_sharedkey *k, const char *text)
{
    crypto_auth_hmacsha256_state state;
    uint8_t sum[crypto_auth_hmacsha256_BYTES];

    crypto_auth_hmacsha256_init(&state, k->key, k->key_bytes);
    crypto_auth_hmacsha256_update(&state, (const uint8_t *)text, strlen(text));
    crypto_auth_hmacsha256_final(&state, sum);
    sodium_memzero(&state, sizeof state);
    ty_str_add_base64(s, sum, sizeof sum);
    return s->failed ? -ENOMEM : 0;
}

int ty_sharedkey_sign(const struct ty_sharedkey *k, struct ty_http_req *r, int64_t now_s)
{
    CLEANUP_STR struct ty_str sum_text = { 0 };
    CLEANUP_FREE char *text = NULL;
    char date[32];
    int w;

    http_date(now_s, date);
    w = ty_http_header(r, "x-ms-date", "%s", date);
    if (w < 0)
        return w;
    text = ty_sharedkey_string(k->account, r);
    if (!text)
        return -ENOMEM;
    if (add_signature(&sum_text, k, text) < 0)
        return -ENOMEM;
    return ty_http_header(r, "Authorization", "SharedKey %s:%s", k->account, sum_text.text);
}

#define SAS_RIGHTS "rcwdl"
#define SAS_VERSION "2020-12-06"

char *ty_sharedkey_sas(const struct ty_sharedkey *k, const char *container, int64_t until_s)
{
    CLEANUP_STR struct ty_str text = { 0 }, sum = { 0 }, query = { 0 };
    time_t t = (time_t)until_s;
    struct tm tm = { 0 };
    char until[32];

    gmtime_r(&t, &tm);
    snprintf(until, sizeof until, "%04d-%02d-%02dT%02d:%02d:%02dZ", (tm.tm_year + 1900) % 10000,
             (tm.tm_mon + 1) % 100, tm.tm_mday % 100, tm.tm_hour % 100, tm.tm_min % 100,
             tm.tm_sec % 100);
    /* rights, start, end, resource, policy, addresses, protocols, version, kind, and seven that a container has not */
    ty_str_addf(&text, SAS_RIGHTS "\n\n%s\n/blob/%s/%s\n\n\n\n" SAS_VERSION "\nc\n\n\n\n\n\n\n",
                until, k->account, container);
    if (text.failed || add_signature(&sum, k, text.text) < 0)
        return NULL;
    ty_str_addf(&query, "sp=" SAS_RIGHTS "&se=%s&sv=" SAS_VERSION "&sr=c&sig=", until);
    for (const char *p = sum.text; *p; p++)
        if (*p == '+' || *p == '/' || *p == '=')
            ty_str_addf(&query, "%%%02X", (unsigned char)*p);
        else
            ty_str_addn(&query, p, 1);
    return ty_str_take(&query);
}

/* sigv4.c - the canonical request, and its signature */
#include "data/sigv4.h"
#include "base/clock.h"
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static void hex_sha256(const void *bytes, size_t n, char hex[65])
{
    uint8_t sum[crypto_hash_sha256_BYTES];

    crypto_hash_sha256(sum, bytes, n);
    sodium_bin2hex(hex, 65, sum, sizeof sum);
}

static void hmac(const uint8_t *key, size_t nkey, const void *bytes, size_t n, uint8_t sum[32])
{
    crypto_auth_hmacsha256_state s;

    crypto_auth_hmacsha256_init(&s, key, nkey);
    crypto_auth_hmacsha256_update(&s, bytes, n);
    crypto_auth_hmacsha256_final(&s, sum);
    sodium_memzero(&s, sizeof s);
}

/* ---- the canonical request ---- */

/* By the name, which ends at `mark` or with the text, then by the value: "a-b:" comes after "a:", though '-' sorts
 * before ':'. */
static int compare_named(const char *x, const char *y, const char *mark)
{
    size_t nx = strcspn(x, mark), ny = strcspn(y, mark);
    int c = memcmp(x, y, nx < ny ? nx : ny);

    if (c == 0 && nx != ny)
        c = nx < ny ? -1 : 1;
    return c ? c : strcmp(x + nx, y + ny);
}

static int compare_pairs(const void *a, const void *b)
{
    return compare_named(*(char *const *)a, *(char *const *)b, "=");
}

static int compare_lines(const void *a, const void *b)
{
    return compare_named(*(char *const *)a, *(char *const *)b, ":");
}

/* "k=v&l" as "k=v&l=", sorted. */
static int add_query(struct ty_str *s, const char *query, size_t n)
{
    CLEANUP_FREE char *copy = strndup(query, n);
    char **pairs;
    size_t count = 0, max = 1;
    char *rest, *pair;

    if (!copy)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        max += copy[i] == '&';
    pairs = calloc(max, sizeof *pairs);
    if (!pairs)
        return -ENOMEM;
    for (pair = strtok_r(copy, "&", &rest); pair; pair = strtok_r(NULL, "&", &rest))
        pairs[count++] = pair;
    qsort(pairs, count, sizeof *pairs, compare_pairs);
    for (size_t i = 0; i < count; i++)
        ty_str_addf(s, "%s%s%s", i ? "&" : "", pairs[i], strchr(pairs[i], '=') ? "" : "=");
    free(pairs);
    return 0;
}

/* "name:value", the name in small letters, the value without blanks at its ends and with single ones within. */
static char *header_line(const char *name, const char *value)
{
    CLEANUP_STR struct ty_str s = { 0 };
    bool blank = false;

    for (const char *p = name; *p; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;

        ty_str_addn(&s, &c, 1);
    }
    ty_str_add(&s, ":");
    for (const char *p = value + strspn(value, " \t"); *p; p++) {
        if (*p == ' ' || *p == '\t') {
            blank = true;
            continue;
        }
        if (blank)
            ty_str_add(&s, " ");
        blank = false;
        ty_str_addn(&s, p, 1);
    }
    return ty_str_take(&s);
}

static int add_headers(struct ty_str *s, struct ty_str *names, const struct ty_http_req *r,
                       const char *host, size_t nhost)
{
    CLEANUP_FREE char *host_text = strndup(host, nhost);
    size_t n = r->headers.n;
    char **lines = host_text ? calloc(n + 1, sizeof *lines) : NULL;
    int w = 0;

    if (!lines)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        lines[i] = header_line(r->headers.at[i].name, r->headers.at[i].value);
    lines[n] = header_line("host", host_text);
    for (size_t i = 0; i <= n; i++)
        if (!lines[i])
            w = -ENOMEM;
    if (w == 0) {
        qsort(lines, n + 1, sizeof *lines, compare_lines);
        for (size_t i = 0; i <= n; i++) {
            ty_str_addf(s, "%s\n", lines[i]);
            ty_str_addf(names, "%s%.*s", i ? ";" : "", (int)strcspn(lines[i], ":"), lines[i]);
        }
    }
    for (size_t i = 0; i <= n; i++)
        free(lines[i]);
    free(lines);
    return w;
}

char *ty_sigv4_canonical(const struct ty_http_req *r, const char *payload, char **signed_headers)
{
    CLEANUP_STR struct ty_str s = { 0 }, names = { 0 };
    const char *host = strstr(r->url, "://"), *path, *query;
    size_t npath;
    int w;

    host = host ? host + 3 : r->url;
    path = host + strcspn(host, "/?");
    npath = strcspn(path, "?");
    query = path[npath] ? path + npath + 1 : "";
    ty_str_addf(&s, "%s\n%.*s\n", r->method, npath ? (int)npath : 1, npath ? path : "/");
    w = add_query(&s, query, strlen(query));
    ty_str_add(&s, "\n");
    if (w == 0)
        w = add_headers(&s, &names, r, host, (size_t)(path - host));
    ty_str_addf(&s, "\n%s\n%s", names.text ? names.text : "", payload);
    if (w < 0 || names.failed)
        return NULL;
    *signed_headers = ty_str_take(&names);
    return ty_str_take(&s);
}

/* ---- the signature ---- */

static void make_key(struct ty_sigv4 *k, const char *day)
{
    CLEANUP_STR struct ty_str first = { 0 };
    uint8_t sum[32];

    ty_str_addf(&first, "AWS4%s", k->secret);
    if (first.failed)
        return;
    hmac((const uint8_t *)first.text, first.len, day, strlen(day), sum);
    hmac(sum, sizeof sum, k->region, strlen(k->region), sum);
    hmac(sum, sizeof sum, k->service, strlen(k->service), sum);
    hmac(sum, sizeof sum, "aws4_request", 12, k->key);
    snprintf(k->day, sizeof k->day, "%s", day);
    sodium_memzero(sum, sizeof sum);
    sodium_memzero(first.text, first.len);
}

static int sign(struct ty_sigv4 *k, struct ty_http_req *r, const char *payload, const char *stamp)
{
    CLEANUP_FREE char *names = NULL;
    CLEANUP_FREE char *canonical = ty_sigv4_canonical(r, payload, &names);
    CLEANUP_STR struct ty_str text = { 0 }, scope = { 0 };
    char hash[65], signature[65], day[9];
    uint8_t sum[32];

    if (!canonical || !names)
        return -ENOMEM;
    snprintf(day, sizeof day, "%.8s", stamp);
    if (strcmp(day, k->day) != 0)
        make_key(k, day);
    hex_sha256(canonical, strlen(canonical), hash);
    ty_str_addf(&scope, "%s/%s/%s/aws4_request", day, k->region, k->service);
    ty_str_addf(&text, "AWS4-HMAC-SHA256\n%s\n%s\n%s", stamp, scope.text ? scope.text : "", hash);
    if (text.failed || scope.failed || strcmp(day, k->day) != 0)
        return -ENOMEM;
    hmac(k->key, sizeof k->key, text.text, text.len, sum);
    sodium_bin2hex(signature, sizeof signature, sum, sizeof sum);
    return ty_http_header(r, "Authorization",
                          "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s",
                          k->key_id, scope.text, names, signature);
}

int ty_sigv4_sign(struct ty_sigv4 *k, struct ty_http_req *r, const char *payload, int64_t now_s)
{
    time_t t = (time_t)now_s;
    char stamp[20];
    struct tm tm;
    int w;

    gmtime_r(&t, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &tm);
    w = ty_http_header(r, "x-amz-date", "%s", stamp);
    if (w == 0 && payload)
        w = ty_http_header(r, "x-amz-content-sha256", "%s", payload);
    if (w == 0 && k->token)
        w = ty_http_header(r, "x-amz-security-token", "%s", k->token);
    return w < 0 ? w : sign(k, r, payload ? payload : TY_SIGV4_EMPTY, stamp);
}

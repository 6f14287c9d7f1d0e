/* http_lib.c - opening libcurl */
#include "data/http_lib.h"
#include "base/error.h"
#include "base/fault.h"
#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

/* Debian's two flavours: with OpenSSL, and with GnuTLS. */
static const char *const names[] = { "libcurl.so.4", "libcurl-gnutls.so.4" };

static const struct symbol {
    const char *name;
    size_t at;
} symbols[] = {
#define X(member, function) { #function, offsetof(struct ty_curl, member) },
    TY_CURL_FUNCTIONS(X)
#undef X
};
static_assert(sizeof(struct ty_curl) == sizeof symbols / sizeof *symbols * sizeof(void *),
              "each function has its row");

static struct {
    pthread_mutex_t lock;
    bool open;
    struct ty_curl curl;
} the = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int find_functions(void *so, const char *name, struct ty_error *err)
{
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *f = dlsym(so, symbols[i].name);

        if (!f)
            return ty_error_set(err, -ENOPKG,
                                "%s has no function %s: it is too old, 7.68 is needed "
                                "(Debian: apt install libcurl4)",
                                name, symbols[i].name);
        memcpy((char *)&the.curl + symbols[i].at, &f, sizeof f);
    }
    return 0;
}

static int open_library(struct ty_error *err)
{
    const char *name = NULL;
    void *so = NULL;
    int r;

    for (size_t i = 0; i < sizeof names / sizeof *names && !so; i++) {
        name = names[i];
        so = FAULT("curl.dlopen", NULL, dlopen(name, RTLD_NOW | RTLD_LOCAL));
    }
    if (!so)
        return ty_error_set(err, -ENOPKG,
                            "libcurl, which object stores are reached with, is not on this machine "
                            "(neither %s nor %s can be opened); Debian: apt install libcurl4",
                            names[0], names[1]);
    r = find_functions(so, name, err);
    if (r == 0 && the.curl.global_init(CURL_GLOBAL_DEFAULT) != 0)
        r = ty_error_set(err, -ENOPKG, "%s cannot be initialised", name);
    if (r < 0)
        dlclose(so);
    return r;
}

int ty_curl_open(const struct ty_curl **ret, struct ty_error *err)
{
    int r = 0;

    pthread_mutex_lock(&the.lock);
    if (!the.open) {
        r = open_library(err);
        the.open = r == 0;
    }
    pthread_mutex_unlock(&the.lock);
    if (r == 0)
        *ret = &the.curl;
    return r;
}

/* http_lib.h - libcurl as this machine has it, opened at run time; http.c's own */
#ifndef TY_HTTP_LIB_H
#define TY_HTTP_LIB_H
#define CURL_DISABLE_TYPECHECK /* its macros stand before functions that are not linked */
#include <curl/curl.h>
struct ty_error;

/*     member         function */
#define TY_CURL_FUNCTIONS(X) \
    X(global_init,     curl_global_init) \
    X(version,         curl_version) \
    X(easy_init,       curl_easy_init) \
    X(easy_cleanup,    curl_easy_cleanup) \
    X(easy_reset,      curl_easy_reset) \
    X(easy_setopt,     curl_easy_setopt) \
    X(easy_getinfo,    curl_easy_getinfo) \
    X(easy_strerror,   curl_easy_strerror) \
    X(multi_init,      curl_multi_init) \
    X(multi_cleanup,   curl_multi_cleanup) \
    X(multi_setopt,    curl_multi_setopt) \
    X(multi_add,       curl_multi_add_handle) \
    X(multi_remove,    curl_multi_remove_handle) \
    X(multi_perform,   curl_multi_perform) \
    X(multi_poll,      curl_multi_poll) \
    X(multi_wakeup,    curl_multi_wakeup) \
    X(multi_info_read, curl_multi_info_read) \
    X(multi_strerror,  curl_multi_strerror)
struct ty_curl {
#define X(member, function) __typeof__(&function) member;
    TY_CURL_FUNCTIONS(X)
#undef X
};

/* The library, opened once and for good.  -ENOPKG: there is none, or it is older than 7.68. */
int ty_curl_open(const struct ty_curl **ret, struct ty_error *err);
#endif

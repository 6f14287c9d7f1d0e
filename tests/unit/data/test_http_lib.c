/* test_http_lib.c - a machine without libcurl says what to install; one with it has it for good */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/fault.h"
#include "data/http.h"
#include "data/http_lib.h"
#include <errno.h>
#include <string.h>

static void test_open(void **state)
{
    const struct ty_curl *a = NULL, *b = NULL;
    struct ty_http *h = NULL;
    struct ty_error err = { 0 };

    (void)state;
#ifdef TY_FAULTS
    setenv("TY_FAULT", "curl.dlopen:1+", 1); /* heard of at the first visit */
    assert_int_equal(ty_http_new(1, &h, &err), -ENOPKG);
    assert_non_null(strstr(err.text, "apt install libcurl4"));
    ty_fault_arm("", 0, 0);
#endif
    assert_int_equal(ty_curl_open(&a, &err), 0);
    assert_int_equal(ty_curl_open(&b, &err), 0);
    assert_ptr_equal(a, b);
    assert_non_null(strstr(a->version(), "libcurl/"));
    assert_int_equal(ty_http_new(1000, &h, &err), 0);
    assert_null(ty_http_free(h));
    assert_null(ty_http_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_open) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

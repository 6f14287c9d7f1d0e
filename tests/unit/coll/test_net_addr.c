/* test_net_addr.c - the addresses of a host as text */
#include "base/error.h"
#include "coll/net_addr.h"
#include "tests.h"
#include <arpa/inet.h>

static void test_parse(void **state)
{
    union ty_address a[4];

    (void)state;
    assert_int_equal(ty_addresses_parse("10.0.0.1:4711 [2001:db8::1]:65535", a, 4), 2);
    assert_int_equal(a[0].v4.sin_family, AF_INET);
    assert_int_equal(ntohl(a[0].v4.sin_addr.s_addr), 0x0a000001);
    assert_int_equal(ntohs(a[0].v4.sin_port), 4711);
    assert_int_equal(ty_address_bytes(&a[0]), sizeof a[0].v4);
    assert_int_equal(a[1].v6.sin6_family, AF_INET6);
    assert_int_equal(a[1].v6.sin6_addr.s6_addr[15], 1);
    assert_int_equal(ntohs(a[1].v6.sin6_port), 65535);
    assert_int_equal(ty_address_bytes(&a[1]), sizeof a[1].v6);
    assert_int_equal(ty_addresses_parse(" 1.2.3.4:1  1.2.3.4:2 1.2.3.4:3 ", a, 2), 2);
}

static void test_what_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "host:1",
        "10.0.0.1",
        "10.0.0.1:",
        "10.0.0.1:0",
        "10.0.0.1:65536",
        "10.0.0:1x",
        "[::1:4",
        "[]:4",
        "]:4",
        ":4",
        "::1:4",
        "[10.0.0.1]:4",
        "1.2.3.4:5 nonsense",
        "1.2.3.4:-5",
        "[:4",
        "[::1]x:4",
    };
    union ty_address a[4];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (ty_addresses_parse(bad[i], a, 4) != -EINVAL)
            fail_msg("'%s' was taken for addresses", bad[i]);
}

static void test_here(void **state)
{
    union ty_address a[TY_NET_ADDRESSES];
    struct ty_error err = { 0 };
    char *all = NULL, *lo = NULL, *by_address = NULL;
    int n;

    (void)state;
    assert_int_equal(ty_addresses_here(NULL, 4711, &all, &err), 0);
    n = ty_addresses_parse(all, a, TY_NET_ADDRESSES);
    assert_true(n >= 1);
    for (int i = 0; i < n; i++)
        assert_int_equal(
            ntohs(a[i].any.sa_family == AF_INET6 ? a[i].v6.sin6_port : a[i].v4.sin_port), 4711);
    assert_int_equal(ty_addresses_here("lo", 4711, &lo, &err), 0);
    assert_ptr_equal(strstr(lo, "127.0.0.1:4711"), lo);
    /* loopback comes last */
    assert_string_equal(all + strlen(all) - strlen(lo), lo);
    assert_int_equal(ty_addresses_here("127.0.0.1,lo", 1, &by_address, &err), 0);
    assert_ptr_equal(strstr(by_address, "127.0.0.1:1 127.0.0.1:1"), by_address);
    free(all);
    free(lo);
    free(by_address);
}

static void test_no_such_interface(void **state)
{
    struct ty_error err = { 0 };
    char *text = NULL;

    (void)state;
    assert_int_equal(ty_addresses_here("lo,nope7", 1, &text, &err), -ENODEV);
    assert_null(text);
    assert_non_null(strstr(err.text, "'nope7'"));
    assert_non_null(strstr(err.text, "lo (127.0.0.1)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_what_is_none),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_no_such_interface),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_netif.c - which addresses are told to others, and in which order */
#include "base/netif.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static struct ifaddrs make(const char *name, unsigned flags, const char *text, union address *a)
{
    memset(a, 0, sizeof *a);
    a->any.sa_family = strchr(text, ':') ? AF_INET6 : AF_INET;
    if (a->any.sa_family == AF_INET6)
        assert_int_equal(inet_pton(AF_INET6, text, &a->v6.sin6_addr), 1);
    else
        assert_int_equal(inet_pton(AF_INET, text, &a->v4.sin_addr), 1);
    return (struct ifaddrs){ .ifa_name = (char *)name, .ifa_flags = flags, .ifa_addr = &a->any };
}

static void test_order(void **state)
{
    static const struct {
        const char *name;
        unsigned flags;
        const char *text;
        enum ty_netif_class class;
    } cases[] = {
        { "eth0", IFF_UP, "10.1.2.3", TY_NETIF_LIKELY },
        { "ib0", IFF_UP, "2001:db8::7", TY_NETIF_LIKELY_6 },
        { "docker0", IFF_UP, "172.17.0.1", TY_NETIF_BRIDGE },
        { "br-12ab", IFF_UP, "fd00::1", TY_NETIF_BRIDGE_6 },
        { "br0", IFF_UP, "10.0.0.1", TY_NETIF_LIKELY }, /* an administrator's own */
        { "lo", IFF_UP | IFF_LOOPBACK, "127.0.0.1", TY_NETIF_LOOPBACK },
        { "lo", IFF_UP | IFF_LOOPBACK, "::1", TY_NETIF_LOOPBACK_6 },
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char text[TY_NETIF_TEXT] = "";
        union address a;
        struct ifaddrs i = make(cases[k].name, cases[k].flags, cases[k].text, &a);

        assert_true(ty_netif_text(&i, text));
        assert_string_equal(text, cases[k].text);
        assert_int_equal(ty_netif_class(&i), cases[k].class);
    }
}

static void test_of_no_use(void **state)
{
    char text[TY_NETIF_TEXT];
    union address a;
    struct ifaddrs down = make("eth0", 0, "10.1.2.3", &a), none = { .ifa_flags = IFF_UP };

    (void)state;
    assert_false(ty_netif_text(&down, text));
    assert_false(ty_netif_text(&none, text));
    struct ifaddrs here = make("eth0", IFF_UP, "fe80::1", &a);
    assert_false(ty_netif_text(&here, text));
    a.any.sa_family = AF_UNIX;
    assert_false(ty_netif_text(&here, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_order),
                                        cmocka_unit_test(test_of_no_use) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* net_addr.c - which addresses this host has, in the order in which others should try them */
#include "coll/net_addr.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/netif.h"
#include "base/str.h"
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

socklen_t ty_address_bytes(const union ty_address *a)
{
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

static void add(struct ty_str *s, const char *text, int port)
{
    if (strchr(text, ':'))
        ty_str_addf(s, "%s[%s]:%d", s->len ? " " : "", text, port);
    else
        ty_str_addf(s, "%s%s:%d", s->len ? " " : "", text, port);
}

/* Those of one class, or (name not NULL) of the interface or the address that `name` is. */
static int add_matching(struct ty_str *s, const struct ifaddrs *all, int class, const char *name,
                        int port)
{
    char text[TY_NETIF_TEXT];
    int n = 0;

    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!ty_netif_text(i, text) || (int)ty_netif_class(i) != class ||
            (name && strcmp(name, i->ifa_name) != 0 && strcmp(name, text) != 0))
            continue;
        add(s, text, port);
        n++;
    }
    return n;
}

static int refuse(const char *name, const struct ifaddrs *all, struct ty_error *err)
{
    CLEANUP_STR struct ty_str have = { 0 };
    char text[TY_NETIF_TEXT];

    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (ty_netif_text(i, text))
            ty_str_addf(&have, "%s%s (%s)", have.len ? ", " : "", i->ifa_name, text);
    return ty_error_set(
        err, -ENODEV,
        "cannot use the network interface '%s' for collectives: no interface or address of that "
        "name is up; this host has %s",
        name, have.text ? have.text : "none");
}

int ty_addresses_here(const char *interfaces, int port, char **ret, struct ty_error *err)
{
    CLEANUP(ty_ifaddrs_freep) struct ifaddrs *all = NULL;
    CLEANUP_FREE char *names = strdup(interfaces ? interfaces : "");
    CLEANUP_STR struct ty_str s = { 0 };
    char *text, *save = NULL;

    if (!names)
        return ty_error_oom(err);
    if (FAULT("net.interfaces", -1, getifaddrs(&all)) < 0)
        return ty_error_set(err, -errno, "cannot list this host's network interfaces: %m");
    for (char *name = strtok_r(names, ", ", &save); name; name = strtok_r(NULL, ", ", &save)) {
        int n = 0;

        for (int c = 0; c < TY_NETIF_CLASSES; c++)
            n += add_matching(&s, all, c, name, port);
        if (n == 0)
            return refuse(name, all, err);
    }
    if (s.len == 0)
        for (int c = 0; c < TY_NETIF_CLASSES; c++)
            add_matching(&s, all, c, NULL, port);
    if (s.len == 0 && !s.failed)
        return ty_error_set(
            err, -ENODEV, "cannot listen for other ranks: no network interface of this host is up");
    text = ty_str_take(&s);
    if (!text)
        return ty_error_oom(err);
    *ret = text;
    return 0;
}

/* One "host:port" or "[host]:port". */
static int parse_one(char *text, union ty_address *ret)
{
    char *colon = strrchr(text, ':');
    union ty_address a;
    int64_t port;

    memset(&a, 0, sizeof a);
    if (!colon)
        return -EINVAL;
    *colon = '\0';
    if (ty_parse_i64(colon + 1, &port) < 0 || port < 1 || port > 65535)
        return -EINVAL;
    if (text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        colon[-1] = '\0';
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons((uint16_t)port);
        if (inet_pton(AF_INET6, text + 1, &a.v6.sin6_addr) != 1)
            return -EINVAL;
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons((uint16_t)port);
        if (inet_pton(AF_INET, text, &a.v4.sin_addr) != 1)
            return -EINVAL;
    }
    *ret = a;
    return 0;
}

int ty_addresses_parse(const char *text, union ty_address *ret, int max)
{
    CLEANUP_FREE char *copy = strdup(text);
    char *save = NULL;
    int n = 0;

    if (!copy)
        return -ENOMEM;
    for (char *one = strtok_r(copy, " ", &save); one; one = strtok_r(NULL, " ", &save)) {
        union ty_address a;

        if (parse_one(one, &a) < 0)
            return -EINVAL;
        if (n < max)
            ret[n++] = a;
    }
    return n > 0 ? n : -EINVAL;
}

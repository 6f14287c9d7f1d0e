/* netif.c - addresses of this machine */
#include "base/netif.h"
#include "base/str.h"
#include <arpa/inet.h>
#include <net/if.h>

static const char *const bridges[] = { "docker", "br-",     "virbr", "veth",
                                       "cni",    "flannel", "lxc",   "podman" };

bool ty_netif_text(const struct ifaddrs *i, char text[TY_NETIF_TEXT])
{
    const struct sockaddr *a = i->ifa_addr;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)a;

    if (!a || !(i->ifa_flags & IFF_UP))
        return false;
    if (a->sa_family == AF_INET)
        return inet_ntop(AF_INET, &v4->sin_addr, text, TY_NETIF_TEXT);
    if (a->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
        return inet_ntop(AF_INET6, &v6->sin6_addr, text, TY_NETIF_TEXT);
    return false;
}

enum ty_netif_class ty_netif_class(const struct ifaddrs *i)
{
    unsigned six = i->ifa_addr->sa_family == AF_INET6;

    if (i->ifa_flags & IFF_LOOPBACK)
        return TY_NETIF_LOOPBACK + six;
    for (size_t k = 0; k < sizeof bridges / sizeof *bridges; k++)
        if (ty_starts_with(i->ifa_name, bridges[k]))
            return TY_NETIF_BRIDGE + six;
    return TY_NETIF_LIKELY + six;
}

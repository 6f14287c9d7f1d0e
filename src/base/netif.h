/* netif.h - which addresses of this machine others can use, and in which order they should try them */
#ifndef TY_NETIF_H
#define TY_NETIF_H
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdbool.h>

#define TY_NETIF_TEXT INET6_ADDRSTRLEN

/* 0 is tried first; those of container bridges, which other machines often have too, so that a connection there leads
 * astray, and loopback after all others; IPv4 before IPv6. */
enum ty_netif_class {
    TY_NETIF_LIKELY, TY_NETIF_LIKELY_6, TY_NETIF_BRIDGE, TY_NETIF_BRIDGE_6, TY_NETIF_LOOPBACK, TY_NETIF_LOOPBACK_6,
    TY_NETIF_CLASSES
};
/* The address of `i` as text; false where others cannot use it: not up, no IP address, link-local. */
bool ty_netif_text(const struct ifaddrs *i, char text[TY_NETIF_TEXT]);
/* Of one that has a text. */
enum ty_netif_class ty_netif_class(const struct ifaddrs *i);
static inline void ty_ifaddrs_freep(struct ifaddrs **p)
{
    if (*p)
        freeifaddrs(*p);
}
#endif

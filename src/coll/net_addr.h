/* net_addr.h - the addresses of a host as text: found out here, read there */
#ifndef TY_COLL_NET_ADDR_H
#define TY_COLL_NET_ADDR_H
#include <netinet/in.h>
#include <sys/socket.h>
struct ty_error;

#define TY_NET_ADDRESSES 32 /* most addresses of a rank */

union ty_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};
socklen_t ty_address_bytes(const union ty_address *a);

/* "10.0.0.1:4711 [2001:db8::1]:4711 127.0.0.1:4711": addresses of this host that are up, those of `interfaces` (names or
 * addresses, separated by commas, in that order) or, where it is NULL or empty, all: those of container bridges
 * late, loopback last; IPv4 before IPv6; link-local ones not at all.  malloc'ed.  -ENODEV: none. */
int ty_addresses_here(const char *interfaces, int port, char **ret, struct ty_error *err);
/* Read such a text: how many, or -EINVAL.  More than `max` are left out. */
int ty_addresses_parse(const char *text, union ty_address *ret, int max);
#endif

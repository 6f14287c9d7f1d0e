/* master.c - choosing MASTER_PORT */
#include "runner/master.h"
#include "base/cleanup.h"
#include "core/launch_plan.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The ports right behind it are those of our own engine, when somebody starts ranks by hand (coll/boot.c). */
#define STEP 16
#define TRIES 200

static int hold_name(int port)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int n = snprintf(a.sun_path + 1, sizeof a.sun_path - 1, "trainyard-master-%d", port);
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) < 0)
        return -1;
    return TAKE_FD(fd);
}

static bool can_bind(int family, const void *address, socklen_t n)
{
    CLEANUP_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return true; /* this family is not there at all */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    return bind(fd, address, n) == 0;
}

static bool is_free(int port)
{
    struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };

    return can_bind(AF_INET, &four, sizeof four) && can_bind(AF_INET6, &six, sizeof six);
}

int ty_master_claim(int *hold)
{
    for (int i = 0; i < TRIES; i++) {
        int port = TY_MASTER_PORT + i * STEP, fd = hold_name(port);

        if (fd >= 0 && is_free(port)) {
            *hold = fd;
            return port;
        }
        if (fd >= 0)
            close(fd);
    }
    *hold = -1;
    return TY_MASTER_PORT;
}

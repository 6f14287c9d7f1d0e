/* auth.c - who asks: the uid at the other end of the Unix socket, as the kernel knows it */
#include "http/request.h"
#include <errno.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PASSWD_BUFFER 4096

int auth_peer(int fd, uid_t *ret)
{
    struct ucred peer;
    socklen_t n = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
        return -errno;
    *ret = peer.uid;
    return 0;
}

/* A look-up may ask a directory server, so it is done once, when the server opens. */
void auth_user_name(uid_t uid, char *ret, size_t n)
{
    char buffer[PASSWD_BUFFER];
    struct passwd pw, *found = NULL;

    if (getpwuid_r(uid, &pw, buffer, sizeof buffer, &found) == 0 && found && *pw.pw_name)
        snprintf(ret, n, "%s", pw.pw_name);
    else
        snprintf(ret, n, "%u", (unsigned)uid);
}

int auth_check(const struct request *req, struct ty_user *ret, struct ty_error *err)
{
    const struct peer *p = req->peer;

    if (!p->known)
        return ty_error_set(err, -EACCES, "this connection does not say which user it belongs to");
    if (p->uid != geteuid() && p->uid != 0)
        return ty_error_set(
            err, -EACCES,
            "user %u may not use this daemon, which serves user '%s' (%u) and root; start one of "
            "your own with `trainyard up`",
            (unsigned)p->uid, req->http->user, (unsigned)geteuid());
    *ret =
        (struct ty_user){ .uid = p->uid, .name = p->uid == geteuid() ? req->http->user : "root" };
    return 0;
}

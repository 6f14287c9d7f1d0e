/* auth.c - who asks: the uid at the other end of the Unix socket, as the kernel knows it; and what they may
 *
 * In user mode the daemon serves its own user and root, who may do everything.  In system mode it serves every
 * user of the machine: root does everything; others change what is theirs, and read what is theirs, or with
 * `system.shared` every run.
 */
#include "base/conf.h"
#include "base/owner.h"
#include "http/request.h"
#include "store/store.h"
#include <errno.h>
#include <pwd.h>
#include <string.h>
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

/* Looked up once for each user: in system mode at their first request. */
static struct account *account(struct ty_http *h, uid_t uid)
{
    struct account *a;

    for (a = h->accounts; a; a = a->next)
        if (a->uid == uid)
            return a;
    a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->uid = uid;
    auth_user_name(uid, a->name, sizeof a->name);
    a->next = h->accounts;
    h->accounts = a;
    return a;
}

void auth_done(struct ty_http *h)
{
    for (struct account *a = h->accounts, *next; a; a = next) {
        next = a->next;
        ty_owner_free(a->owner);
        free(a);
    }
    h->accounts = NULL;
}

static int check_user(struct request *req, uid_t uid)
{
    const struct account *a;

    if (!req->http->o.system && uid != geteuid() && uid != 0)
        return ty_error_set(
            &req->err, -EACCES,
            "user %u may not use this daemon, which serves user '%s' (%u) and root; start one of "
            "your own with `trainyard up`",
            (unsigned)uid, req->http->user, (unsigned)geteuid());
    a = account(req->http, uid);
    if (!a)
        return ty_error_oom(&req->err);
    req->who = (struct ty_user){ .uid = a->uid, .name = a->name };
    return 0;
}

int auth_check(struct request *req, const char *method, char *query)
{
    const struct peer *p = req->peer;
    uid_t uid = p->uid;
    int r = 0;

    if (!p->known)
        return ty_error_set(&req->err, -EACCES,
                            "this connection does not say which user it belongs to");
    if (p->web)
        r = web_who(req, method, query, &uid);
    return r < 0 ? r : check_user(req, uid);
}

bool auth_is_admin(const struct request *req)
{
    return !req->http->o.system || req->who.uid == 0;
}

int auth_need_admin(struct request *req, const char *what)
{
    return auth_is_admin(req) ? 0
                              : ty_error_set(&req->err, -EACCES,
                                             "only an administrator (root) can %s: this daemon "
                                             "serves all users of the machine",
                                             what);
}

int auth_run(struct request *req, const char *run, bool change)
{
    CLEANUP_FREE char *user = NULL;

    if (auth_is_admin(req) || (!change && ty_conf_bool(req->http->o.conf, "system.shared")))
        return 0;
    /* What cannot be read is not there for the handler either. */
    if (ty_store_run_user(req->http->o.store, run, &user) < 0 || strcmp(user, req->who.name) == 0)
        return 0;
    return ty_error_set(&req->err, -EACCES,
                        "run '%.255s' belongs to user '%s'; only they and an administrator (root) "
                        "can %s it",
                        run, user, change ? "change" : "read");
}

int auth_may(struct request *req)
{
    const struct ty_route *route = &ty_routes[req->match.route];

    if (route->role == TY_ROLE_OWNER)
        return auth_need_admin(req, "do this");
    return strstr(route->path, "/runs/{run}")
               ? auth_run(req, req->args[0], route->role != TY_ROLE_READER)
               : 0;
}

int auth_owner(struct request *req, const struct ty_owner **ret)
{
    struct account *a;
    int r = 0;

    *ret = NULL;
    if (auth_is_admin(req))
        return 0;
    a = account(req->http, (uid_t)req->who.uid);
    if (!a)
        return ty_error_oom(&req->err);
    if (!a->owner)
        r = ty_owner_find(a->name, &a->owner, &req->err);
    if (r == 0)
        *ret = a->owner;
    return r;
}

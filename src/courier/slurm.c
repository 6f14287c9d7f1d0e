/* slurm.c - a courier on Slurm: channels of the keeper (target/slurm_channel.h) in ssh's place
 *
 * Which nodes the run has is known when Slurm has given them: until then its hosts have numbers for names.  What the channel
 * leaves in the job folder says the rest: `allocated` which nodes they are, `ended` that the allocation is over and why.
 */
#include "base/error.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/owner.h"
#include "courier/courier_internal.h"
#include "target/slurm_channel.h"
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX (16 << 20)
#define FOLDER "~/.cache/trainyard"

bool ty_courier_slurm(const struct ty_courier *c)
{
    return strcmp(c->target->kind, "slurm") == 0;
}

static const char *folder_of(const struct ty_courier *c)
{
    return c->target->folder ? c->target->folder : FOLDER;
}

int ty_slurm_places(struct ty_courier *c, struct ty_error *err)
{
    int n = c->spec->node_count;

    c->hosts = calloc((size_t)n, sizeof *c->hosts);
    c->made = calloc((size_t)n, sizeof *c->made);
    c->nodes = json_array();
    if (!c->hosts || !c->made || !c->nodes)
        return ty_error_oom(err);
    for (int i = 0; i < n; i++) {
        char name[32];

        snprintf(name, sizeof name, "node %d", i);
        json_array_append_new(c->nodes, json_pack("{s:s s:i s:[] s:[]}", "name", name, "ranks",
                                                  c->spec->process_count_per_node, "cpus", "gpus"));
        c->made[i].host =
            json_string_value(json_object_get(json_array_get(c->nodes, (size_t)i), "name"));
        ty_host_init(&c->hosts[i], c, &c->made[i], i);
        c->hosts[i].heard_us = c->now_us;
        c->nhosts++;
    }
    return c->made[n - 1].host ? 0 : ty_error_oom(err);
}

int ty_slurm_start(struct ty_courier_host *h, struct ty_error *err)
{
    char self[PATH_MAX], index[16];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *argv[] = { self, "channel", h->c->dir, index, "remote", folder_of(h->c), NULL };

    if (n < 0)
        return ty_error_set(err, -errno, "cannot find our own program: %m");
    self[n] = '\0';
    snprintf(index, sizeof index, "%d", h->index);
    h->ssh = (struct ty_ssh)TY_SSH_INIT;
    h->ssh.sha = h->c->sha;
    return ty_ssh_run(&h->ssh, argv, "/", NULL, err);
}

static int read_file(const struct ty_courier *c, const char *name, json_t **ret)
{
    CLEANUP_FREE char *path = ty_path_join(c->dir, name);
    CLEANUP_FREE char *text = NULL;
    size_t n;
    int r = path ? ty_read_file(path, FILE_MAX, &text, &n) : -ENOMEM;

    return r < 0 ? r : ty_json_parse(text, n, ret, NULL);
}

/* One process alone is not bound to CPUs: Slurm has seen to it, where it is set to. */
static json_t *node_of(const struct ty_courier *c, const json_t *given)
{
    json_t *node =
        json_pack("{s:O? s:i s:O? s:O?}", "name", json_object_get(given, "name"), "ranks",
                  c->spec->process_count_per_node, "cpus", json_object_get(given, "cpu_set"),
                  "gpus", json_object_get(given, "gpus"));

    if (!json_is_array(json_object_get(node, "cpus")))
        json_object_set_new(node, "cpus", json_array());
    if (!json_is_array(json_object_get(node, "gpus")))
        json_object_set_new(node, "gpus", json_array());
    return node;
}

int ty_slurm_allocated(struct ty_courier *c)
{
    CLEANUP_JSON json_t *o = NULL;
    CLEANUP_JSON json_t *nodes = json_array();
    const json_t *given, *node;
    size_t i;
    int r = read_file(c, TY_SLURM_ALLOCATED, &o);

    if (r < 0 || !nodes)
        return r < 0 ? r : -ENOMEM;
    json_array_foreach (json_object_get(o, "nodes"), i, given)
        json_array_append_new(nodes, node_of(c, given));
    if ((int)json_array_size(nodes) != c->nhosts)
        return -EBADMSG;
    json_array_foreach (nodes, i, node)
        if (!json_is_string(json_object_get(node, "name")))
            return -EBADMSG;
    /* For the runner, which asks Slurm how it ended. */
    json_object_set_new(c->job, "allocation",
                        json_pack("{s:O? s:O?}", "job", json_object_get(o, "job"), "environment",
                                  c->target->slurm.environment));
    json_decref(c->nodes);
    c->nodes = TAKE(nodes);
    json_array_foreach (c->nodes, i, node)
        c->made[i].host = json_string_value(json_object_get(node, "name"));
    return 0;
}

/* What lies in the shared folder nobody else removes any more. */
static void remove_far_folder(const struct ty_courier_host *h)
{
    const struct ty_courier *c = h->c;
    const struct passwd *pw = c->owner ? NULL : getpwuid(getuid());
    const char *home = c->owner ? c->owner->home : pw ? pw->pw_dir : "/", *folder = folder_of(c);
    CLEANUP_FREE char *base =
        ty_starts_with(folder, "~/") ? ty_path_join(home, folder + 2) : strdup(folder);
    char name[256];
    CLEANUP_FREE char *path =
        base ? ty_strf("%s/jobs/%s", base, ty_host_job(h, name, sizeof name)) : NULL;
    int r;

    if (!path || !c->target->slurm.shared_home)
        return;
    ty_owner_enter(c->owner);
    r = ty_rm_rf(path);
    ty_owner_leave(c->owner);
    if (r < 0)
        ty_log(TY_LOG_WARN, "cannot remove '%s': %s", path, strerror(-r));
}

bool ty_slurm_over(struct ty_courier_host *h)
{
    struct ty_courier *c = h->c;
    CLEANUP_JSON json_t *o = NULL;
    const char *reason, *message, *node;

    /* To be cleaned it need not be reached again, which could take a new allocation: Slurm ends what is left on its nodes. */
    if (ty_courier_slurm(c) && c->phase == TY_COURIER_CLEANING) {
        remove_far_folder(h);
        h->state = TY_HOST_CLEAN;
        return true;
    }
    if (!ty_courier_slurm(c) || read_file(c, TY_SLURM_ENDED_FILE, &o) < 0)
        return false;
    reason = json_string_value(json_object_get(o, "reason"));
    message = json_string_value(json_object_get(o, "message"));
    node = json_string_value(json_object_get(o, "node"));
    if (c->phase < TY_COURIER_TELLING && c->cancel)
        ty_courier_end(c, "cancel", NULL, "the run was canceled");
    else if (c->phase < TY_COURIER_TELLING)
        ty_courier_end(c, reason ? reason : "lost", node,
                       message ? message : "its allocation is over");
    return true;
}

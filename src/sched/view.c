/* view.c - is there something on a target's machines that can show a job the files it asks for?
 *
 * Of this box and of hosts that have been asked it is known before a run is accepted; of a cluster only on its nodes.
 */
#include "env/view.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"
#include "core/run_spec.h"
#include "sched/sched_internal.h"
#include "store/store.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A machine that has not said is given the benefit of the doubt. */
static bool lacks(const struct node *n, bool image)
{
    const json_t *said = json_object_get(n->facts, image ? "images" : "sandbox");

    return image ? json_is_string(said) && !*json_string_value(said) : json_is_false(said);
}

static int check_hosts(const struct target *t, const struct ty_env_spec *e, struct ty_error *err)
{
    bool image = e->view == TY_VIEW_IMAGE;

    for (int i = 0; i < t->spec->nhosts; i++)
        if (!lacks(t->nodes[i], image))
            return 0;
    if (t->spec->nhosts == 0)
        return 0;
    if (image)
        return ty_error_set(
            err, -ENOTSUP,
            "the run asks for the image '%s', and no host of target '%s' can run images: install podman, "
            "docker or apptainer on '%s' and add the target again, or leave the image out",
            e->image, t->name, t->nodes[0]->name);
    return ty_error_set(
        err, -ENOTSUP,
        "the run asks for a sandbox, and no host of target '%s' has bubblewrap: install it on '%s' and add "
        "the target again, or leave 'sandbox' out",
        t->name, t->nodes[0]->name);
}

int view_check(const struct target *t, const struct ty_run_spec *spec, struct ty_error *err)
{
    const struct ty_env_spec *e = spec->env;
    struct ty_tool tool = TY_TOOL_INIT;
    int r = 0;

    if (e->view == TY_VIEW_PLAIN)
        return 0;
    if (strcmp(t->spec->kind, "local") == 0)
        r = ty_view_tool(e, json_string_value(json_object_get(spec->environment, "DOCKER_HOST")),
                         &tool, err);
    else
        r = check_hosts(t, e, err);
    return r;
}

int view_secret(struct ty_sched *s, const struct live *l, json_t *extra, struct ty_error *err)
{
    const char *name = l->spec->env->image_secret;
    CLEANUP_FREE char *full = name && s->o.system ? ty_strf("%s/%s", l->user, name)
                              : name              ? strdup(name)
                                                  : NULL;
    CLEANUP_FREE char *value = NULL;
    int r;

    if (!name)
        return 0;
    if (!full)
        return ty_error_oom(err);
    r = ty_store_secret(s->o.store, full, &value, err);
    if (r == -ENOENT)
        return ty_error_set(
            err, r,
            "there is no secret '%s' with the password for the image '%s'; 'trainyard secret set %s' makes it",
            name, l->spec->env->image, name);
    if (r < 0)
        return ty_error_prefix(err, "the password for the image '%s'", l->spec->env->image);
    return json_object_set_new(extra, "image_password", json_string(value)) < 0 ? ty_error_oom(err)
                                                                                : 0;
}

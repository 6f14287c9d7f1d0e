/* view.h - how the processes of a job see the machine's files: as they are, through bubblewrap, or from an image
 *
 * A view turns the argument vector and environment of a process into those of the tool that starts it.  It is given
 * the machine's network, processes and shared memory, so that ranks find each other as without it: it is for what the
 * job needs to find (an image) or should not touch by mistake (the rest of the files), not for programs that are not
 * to be trusted.  Why it is so: docs/decisions/0029-views-of-the-file-system.md.
 */
#ifndef TY_VIEW_H
#define TY_VIEW_H
#include "core/env_spec.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
struct ty_error;

enum ty_tool_kind { TY_TOOL_NONE, TY_TOOL_BWRAP, TY_TOOL_PODMAN, TY_TOOL_DOCKER, TY_TOOL_APPTAINER };
struct ty_tool {
    enum ty_tool_kind kind;
    char path[256]; /* absolute */
};
#define TY_TOOL_INIT { .kind = TY_TOOL_NONE }

/* The tool for what `s` asks for, on this machine: podman, docker whose service can be reached, apptainer (or
 * singularity), in this order; bwrap for a sandbox; TY_TOOL_NONE for a plain view.  -ENOTSUP: there is none, and the
 * sentence says what to install.  `docker_host`: the user's DOCKER_HOST, or NULL. */
int ty_view_tool(const struct ty_env_spec *s, const char *docker_host, struct ty_tool *ret, struct ty_error *err);
const char *ty_tool_word(enum ty_tool_kind k); /* "podman"; "" for none */
/* Is there a tool for images on this machine?  Its word, or NULL. */
const char *ty_view_can_image(void);
bool ty_view_can_sandbox(void);

struct ty_view {
    const struct ty_env_spec *spec;
    struct ty_tool tool;
    const char *work, *tmp;              /* absolute: where the process begins; its TMPDIR, and in an image its HOME */
    const char *home;                    /* of the user; empty in a sandbox */
    const char *const *writable, *const *readable; /* NULL-terminated absolute paths that it finds at their place; those that
                                                    * do not exist are left out */
    const char *hidden;                  /* a file that a sandbox does not show; NULL: none */
    const char *name;                    /* of the container; unique on the machine */
    const json_t *user_environment;      /* object: what the user asked for, which an image's own does not replace */
    const char *password;                /* of the image's registry; NULL: none */
    bool gpu;                            /* the node's GPUs are wanted */
    bool input;                          /* the process reads its stdin */
    bool own_path;                       /* PATH of the process is more than the image's own */
    bool alone;                          /* no other process of the job is on this machine: shm_bytes counts */
    uid_t uid;                           /* who the job runs as */
    gid_t gid;
};
/* malloc'ed vectors (ty_strv_free).  A plain view gives copies.  `argv`[0] is looked up on the PATH that the view has. */
int ty_view_wrap(const struct ty_view *v, char *const *argv, char *const *env, char ***ret_argv, char ***ret_env,
                 struct ty_error *err);
/* What removes a container that its tool could not remove, having been killed; *ret NULL: nothing has to. */
int ty_view_after(const struct ty_view *v, char ***ret, struct ty_error *err);

/* What names the content of the image that is here: its digest, of a file its time and size; malloc'ed.  -EIO. */
int ty_view_image_id(const struct ty_view *v, char *const *env, char **ret, struct ty_error *err);

/* Have the image here (waits for the network; for a process of its own).  `env`: for the tool; output goes line by line to
 * `log`.  The registry's password goes to a file in v->tmp (0600) which the tool reads.  -EIO with the tool's own last
 * line. */
int ty_view_pull(const struct ty_view *v, char *const *env, void (*log)(const char *line, void *ctx), void *ctx,
                 struct ty_error *err);
#endif

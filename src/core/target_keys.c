/* target_keys.c - the machines of a target of kind "hosts", and what a target of kind "slurm" asks of Slurm
 *
 * What is said here ends on the command lines of ssh and sbatch: nothing that either would read as an option of its own
 * is let through where a name is meant.
 */
#include "core/target_keys.h"
#include "base/error.h"
#include "base/str.h"
#include "core/ascii.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHAT TARGET_WHAT
#define TEXT_MAX 4096
#define NAME_BYTES_MAX 255
#define LIST_MAX 100
#define CPUS_MAX 65536
#define MEMORY_MB_MAX (1LL << 30)
#define GPUS_MAX 1024
#define MINUTES_MAX (366 * 24 * 60)

int target_texts(json_t *o, const char *what, const char *key, json_t **ret, struct ty_error *err)
{
    json_t *list = json_object_get(o, key), *item;
    size_t i;

    if (!list || json_is_null(list)) {
        list = json_array();
        if (!list || json_object_set_new(o, key, list) < 0)
            return ty_error_oom(err);
    }
    if (!json_is_array(list))
        return ty_error_set(err, -EINVAL, "%s: '%s' is not a list", what, key);
    json_array_foreach (list, i, item)
        if (!json_is_string(item) || json_string_length(item) == 0 ||
            json_string_length(item) > TEXT_MAX)
            return ty_error_set(err, -EINVAL,
                                "%s: entry %zu of '%s' is not a text of 1 to %d bytes", what, i + 1,
                                key, TEXT_MAX);
    *ret = list;
    return 0;
}

/* As target_texts, of at most LIST_MAX entries. */
static int short_list(json_t *o, const char *key, json_t **ret, struct ty_error *err)
{
    int r = target_texts(o, WHAT, key, ret, err);

    if (r == 0 && json_array_size(*ret) > LIST_MAX)
        return ty_error_set(err, -EINVAL, WHAT ": '%s' has %zu entries, and may have %d", key,
                            json_array_size(*ret), LIST_MAX);
    return r;
}

/* A text that stays NULL when it is absent or empty; one of letters, digits and `also`, unless that is NULL. */
static int get_name(const json_t *o, const char *what, const char *key, const char *also,
                    const char **ret, struct ty_error *err)
{
    const char *v = NULL;
    int r = ty_json_get_str(o, what, key, &v, err);

    if (r < 0 || !v || !*v)
        return r;
    if (strlen(v) > (also ? NAME_BYTES_MAX : TEXT_MAX))
        return ty_error_set(err, -EINVAL, "%s: '%s' has more than %d bytes", what, key,
                            also ? NAME_BYTES_MAX : TEXT_MAX);
    if (*v == '-' || (also && !ty_ascii_only(v, also)))
        return ty_error_set(
            err, -EINVAL,
            "%s: '%s' is '%.80s'; it has letters, digits and %s, and does not begin "
            "with '-'",
            what, key, v, also ? also : "others");
    *ret = v;
    return 0;
}

/* An absolute path, or one below the home folder ("~/..."). */
static int get_path(const json_t *o, const char *what, const char *key, const char **ret,
                    struct ty_error *err)
{
    int r = get_name(o, what, key, NULL, ret, err);

    if (r == 0 && *ret && **ret != '/' && strncmp(*ret, "~/", 2) != 0)
        return ty_error_set(
            err, -EINVAL, "%s: '%s' is '%.200s'; give an absolute path, or one that begins with ~/",
            what, key, *ret);
    return r;
}

/* ---- hosts ---- */

char *ty_host_key(const struct ty_host *h)
{
    CLEANUP_STR struct ty_str key = { 0 };

    ty_str_addf(&key, "%s%s%s", h->user ? h->user : "", h->user ? "@" : "", h->host);
    if (h->port)
        ty_str_addf(&key, ":%d", h->port);
    return ty_str_take(&key);
}

static int host_numbers(struct ty_host *h, const char *what, struct ty_error *err)
{
    int64_t port = 0, cpus = -1, gpus = -1;
    int r = ty_json_get_i64(h->json, what, "port", 1, 65535, &port, err);

    if (r == 0)
        r = ty_json_get_i64(h->json, what, "cpus", 1, CPUS_MAX, &cpus, err);
    if (r == 0)
        r = ty_json_get_i64(h->json, what, "memory_mb", 1, MEMORY_MB_MAX, &h->memory_mb, err);
    if (r == 0)
        r = ty_json_get_i64(h->json, what, "gpus", 0, GPUS_MAX, &gpus, err);
    h->port = (int)port;
    h->cpus = (int)cpus;
    h->gpus = (int)gpus;
    return r;
}

static int one_host(struct ty_host *h, json_t *json, size_t n, struct ty_error *err)
{
    static const char *const known[] = { "host", "port",      "user", "identity_file",
                                         "cpus", "memory_mb", "gpus", NULL };
    char what[64];
    int r;

    snprintf(what, sizeof what, WHAT ": entry %zu of 'hosts'", n);
    *h = (struct ty_host){ .json = json, .memory_mb = -1 };
    r = ty_json_only(json, what, known, err);
    if (r == 0)
        r = get_name(json, what, "host", "._-:%", &h->host, err);
    if (r == 0 && !h->host)
        return ty_error_set(err, -EINVAL,
                            "%s: 'host' is missing: the name that ssh is to connect to", what);
    if (r == 0)
        r = get_name(json, what, "user", "._-@", &h->user, err);
    if (r == 0)
        r = get_path(json, what, "identity_file", &h->identity_file, err);
    return r == 0 ? host_numbers(h, what, err) : r;
}

static int by_host(const void *a, const void *b)
{
    return strcmp(((const struct ty_host *)a)->host, ((const struct ty_host *)b)->host);
}

/* A node goes by its host's name: no name may stand twice. */
static int check_twice(const struct ty_target_spec *s, struct ty_error *err)
{
    struct ty_host *sorted = malloc((size_t)s->nhosts * sizeof *sorted);
    int r = 0;

    if (!sorted)
        return ty_error_oom(err);
    memcpy(sorted, s->hosts, (size_t)s->nhosts * sizeof *sorted);
    qsort(sorted, (size_t)s->nhosts, sizeof *sorted, by_host);
    for (int i = 1; i < s->nhosts && r == 0; i++)
        if (strcmp(sorted[i - 1].host, sorted[i].host) == 0)
            r = ty_error_set(err, -EINVAL, WHAT ": 'hosts' names '%.80s' twice", sorted[i].host);
    free(sorted);
    return r;
}

int target_hosts(struct ty_target_spec *s, struct ty_error *err)
{
    json_t *list = json_object_get(s->json, "hosts"), *item;
    size_t i, n = json_array_size(list);
    int r;

    if (!json_is_array(list) || n < 1 || n > TY_TARGET_HOSTS_MAX)
        return ty_error_set(err, -EINVAL,
                            WHAT ": 'hosts' must be a list of 1 to %d objects, each with a 'host'",
                            TY_TARGET_HOSTS_MAX);
    s->hosts = calloc(n, sizeof *s->hosts);
    if (!s->hosts)
        return ty_error_oom(err);
    s->nhosts = (int)n;
    json_array_foreach (list, i, item) {
        r = one_host(&s->hosts[i], item, i + 1, err);
        if (r < 0)
            return r;
    }
    r = check_twice(s, err);
    if (r == 0)
        r = get_path(s->json, WHAT, "ssh_config", &s->ssh_config, err);
    if (r == 0)
        r = short_list(s->json, "ssh_options", &s->ssh_options, err);
    return r == 0 ? get_path(s->json, WHAT, "folder", &s->folder, err) : r;
}

/* ---- slurm ---- */

static int slurm_names(struct ty_target_spec *s, struct ty_error *err)
{
    const struct {
        const char *key, *also;
        const char **ret;
    } names[] = {
        { "partition", "._-,", &s->slurm.partition },
        { "account", "._-", &s->slurm.account },
        { "qos", "._-", &s->slurm.qos },
        { "gres", "._-:,=()", &s->slurm.gres },
        { "constraint", "._-&|*[]()", &s->slurm.constraint },
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof names / sizeof *names; i++)
        r = get_name(s->json, WHAT, names[i].key, names[i].also, names[i].ret, err);
    return r;
}

static int one_size(const json_t *size, const char *label, struct ty_error *err)
{
    static const char *const known[] = { "partition", "gres", "constraint", "cpus", NULL };
    const char *unused = NULL;
    char what[128];
    int64_t cpus = 0;
    int r;

    snprintf(what, sizeof what, WHAT ": '%.60s' of 'vm_sizes'", label);
    r = ty_json_only(size, what, known, err);
    if (r == 0)
        r = get_name(size, what, "partition", "._-,", &unused, err);
    if (r == 0)
        r = get_name(size, what, "gres", "._-:,=()", &unused, err);
    if (r == 0)
        r = get_name(size, what, "constraint", "._-&|*[]()", &unused, err);
    return r == 0 ? ty_json_get_i64(size, what, "cpus", 1, CPUS_MAX, &cpus, err) : r;
}

/* An object; absent or null: an empty one is put in its place. */
static int get_object(json_t *o, const char *key, json_t **ret, struct ty_error *err)
{
    json_t *v = json_object_get(o, key);

    if (!v || json_is_null(v)) {
        v = json_object();
        if (!v || json_object_set_new(o, key, v) < 0)
            return ty_error_oom(err);
    }
    if (!json_is_object(v) || json_object_size(v) > LIST_MAX)
        return ty_error_set(err, -EINVAL, WHAT ": '%s' must be an object of at most %d keys", key,
                            LIST_MAX);
    *ret = v;
    return 0;
}

static int slurm_environment(struct ty_target_spec *s, struct ty_error *err)
{
    json_t *item;
    const char *name;
    int r = get_object(s->json, "environment", &s->slurm.environment, err);

    if (r == 0)
        r = ty_json_get_strings(s->json, WHAT, "environment", &s->slurm.environment, err);
    if (r == 0)
        json_object_foreach (s->slurm.environment, name, item)
            if (!*name || ty_ascii_digit(*name) || !ty_ascii_only(name, "_"))
                return ty_error_set(err, -EINVAL,
                                    WHAT ": '%.80s' of 'environment' cannot be the name of a "
                                         "variable",
                                    name);
    return r;
}

int target_slurm(struct ty_target_spec *s, struct ty_error *err)
{
    int64_t minutes = 0;
    const char *label;
    json_t *size;
    int r = slurm_names(s, err);

    s->slurm.shared_home = true;
    if (r == 0)
        r = ty_json_get_i64(s->json, WHAT, "time_minutes", 1, MINUTES_MAX, &minutes, err);
    if (r == 0)
        r = short_list(s->json, "sbatch_options", &s->slurm.sbatch_options, err);
    if (r == 0)
        r = ty_json_get_bool(s->json, WHAT, "shared_home", &s->slurm.shared_home, err);
    if (r == 0)
        r = get_path(s->json, WHAT, "folder", &s->folder, err);
    if (r == 0)
        r = get_object(s->json, "vm_sizes", &s->slurm.vm_sizes, err);
    if (r == 0)
        json_object_foreach (s->slurm.vm_sizes, label, size)
            if ((r = one_size(size, label, err)) < 0)
                return r;
    s->slurm.time_minutes = (int)minutes;
    return r == 0 ? slurm_environment(s, err) : r;
}

/* target_default.c - what the configuration says of targets that name no kind
 *
 * So a script that makes a cluster in the cloud's words, which know nothing of Slurm or of hosts, makes one of what this
 * service has.
 */
#include "base/conf.h"
#include "base/fs.h"
#include "http/request.h"
#include <errno.h>
#include <string.h>

#define TEMPLATE_BYTES_MAX (1 << 20)
#define NONE "none"

static int read_template(const char *path, json_t **ret, struct ty_error *err)
{
    CLEANUP_JSON json_t *found = NULL;
    CLEANUP_FREE char *text = NULL;
    struct ty_error why = { 0 };
    size_t n = 0;
    int r = ty_read_file(path, TEMPLATE_BYTES_MAX, &text, &n);

    if (r < 0)
        return ty_error_set(err, -EIO, "cannot read '%s', which target.template names: %s", path,
                            strerror(-r));
    r = ty_json_parse(text, n, &found, &why);
    if (r == 0 && !json_is_object(found))
        r = ty_error_set(&why, -EINVAL, "it holds no JSON object");
    if (r < 0)
        return ty_error_set(err, -EIO, "cannot use '%s', which target.template names: %s", path,
                            why.text);
    *ret = TAKE(found);
    return 0;
}

static int find_template(const struct ty_conf *conf, json_t **ret, struct ty_error *err)
{
    const char *path = ty_conf_text(conf, "target.template");
    const char *partition = ty_conf_text(conf, "target.slurm_partition");

    if (strcmp(path, NONE) != 0)
        return read_template(path, ret, err);
    *ret = strcmp(partition, NONE) != 0
               ? json_pack("{s:s s:s}", "kind", "slurm", "partition", partition)
               : json_pack("{s:s}", "kind", "local");
    return *ret ? 0 : ty_error_oom(err);
}

static bool is_given(const json_t *spec, const char *key)
{
    const json_t *value = json_object_get(spec, key);

    return value && !json_is_null(value);
}

int target_fill(const struct ty_conf *conf, json_t *spec, struct ty_error *err)
{
    CLEANUP_JSON json_t *from = NULL;
    const char *key;
    json_t *value;
    int r = is_given(spec, "kind") ? 0 : find_template(conf, &from, err);

    json_object_foreach (from, key, value)
        if (r == 0 && !is_given(spec, key) && json_object_set(spec, key, value) < 0)
            r = ty_error_oom(err);
    return r;
}

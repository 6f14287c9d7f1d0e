/* torch_ask.c - the choice of torch.c, made for an environment that is being looked for
 *
 * What is to be installed joins what the interpreter lacks, with "by": "torch" to be known by; so pip resolves all in one go.
 */
#include "base/cleanup.h"
#include "base/gpu.h"
#include "env/env_internal.h"
#include "env/torch.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REACH_SECONDS 15

static const char *package(const struct env_build *b, const char *name)
{
    return json_string_value(json_object_get(json_object_get(b->asked, "packages"), name));
}

/* An entry of what is missing, with that name, that is not ours. */
static const char *missing_spec(const struct env_build *b, const char *list, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach (json_object_get(b->asked, list), i, one) {
        const char *has = json_string_value(json_object_get(one, "name"));

        if (has && strcmp(has, name) == 0 && !json_object_get(one, "by"))
            return json_string_value(json_object_get(one, "spec"));
    }
    return NULL;
}

/* What a requirement says of versions: "torch[x] >=2,<3 ; marker" is ">=2,<3".  NULL: an address. */
static char *clauses_of(const char *spec)
{
    const char *p = spec + strcspn(spec, "=<>!~@; ["), *hash = strstr(spec, " --hash=");
    size_t n;

    if (*p == '[')
        p += strcspn(p, "]") + (strchr(p, ']') != NULL);
    p += strspn(p, " (");
    n = strcspn(p, ";)");
    if (hash && hash < p + n)
        n = hash > p ? (size_t)(hash - p) : 0;
    return *p == '@' || strstr(spec, "://") ? NULL : strndup(p, n);
}

struct wanted {
    char *torch, *torchvision; /* owned */
};

static void wanted_done(struct wanted *w)
{
    free(w->torch);
    free(w->torchvision);
}

/* What a requirement of pip's and the key of the specification say together. */
static char *both(const char *requirement, const char *asked)
{
    CLEANUP_FREE char *clauses = requirement ? clauses_of(requirement) : NULL;

    if (!clauses || !*clauses)
        return asked ? strdup(asked) : TAKE(clauses);
    return asked && *asked ? ty_strf("%s,%s", clauses, asked) : TAKE(clauses);
}

static bool find_wanted(const struct env_build *b, struct wanted *w)
{
    const struct ty_env_spec *s = b->q->spec;
    const char *pip = missing_spec(b, "missing", "torch"),
               *vision = missing_spec(b, "missing", "torchvision");

    if (s->lock || missing_spec(b, "conda_missing", "torch"))
        return false;
    w->torch = both(pip, s->torch);
    w->torchvision = both(vision, s->torchvision);
    return w->torch || w->torchvision;
}

static const char *index_of(const struct env_build *b)
{
    const char *named = b->q->torch_index ? b->q->torch_index : getenv("TRAINYARD_TORCH_INDEX");

    /* Who names an index of packages has torch there, too, unless one for torch is named as well. */
    return b->torch_by_pip || (!named && b->q->spec->index_url) ? TY_TORCH_INDEX_PIP : named;
}

static void look_at_node(const struct env_build *b, struct ty_torch_node *n,
                         struct ty_gpu_driver *driver)
{
    struct ty_gpu *gpus = NULL;
    int count = 0;

    *n = (struct ty_torch_node){ .python = json_string_value(json_object_get(b->asked, "version")),
                                 .torch = package(b, "torch"),
                                 .torchvision = package(b, "torchvision"),
                                 .cuda =
                                     json_string_value(json_object_get(b->asked, "torch_cuda")) };
    if (b->q->use_gpu && ty_gpu_list(&gpus, &count) == 0 && count > 0) {
        n->gpu = true;
        ty_gpu_driver(driver);
        ty_gpu_release();
    }
    n->driver_cuda = driver->cuda;
    free(gpus);
}

void env_gpu_kind(const struct env_build *b, char kind[16])
{
    struct ty_gpu_driver driver = { 0 };
    struct ty_torch_node n;

    *kind = '\0';
    if (!b->q->use_gpu)
        return;
    look_at_node(b, &n, &driver);
    if (n.gpu)
        snprintf(kind, 16, "%s", *driver.cuda ? driver.cuda : "?");
}

/* ---- what the interpreter lacks ---- */

static int lack(struct env_build *b, const char *name, const char *spec, const char *why)
{
    json_t *one;

    const char *own = missing_spec(b, "missing", name);

    /* One that is named with its hashes is that one: beside it pip takes none without. */
    if (!*spec || (own && strstr(own, " --hash=")))
        return 0;
    one = json_pack("{s:s, s:s, s:s, s:s}", "spec", spec, "name", name, "why", why, "by", "torch");
    return one ? json_array_append_new(json_object_get(b->asked, "missing"), one) : -1;
}

static void lack_no_more(struct env_build *b)
{
    json_t *missing = json_object_get(b->asked, "missing");

    for (size_t i = json_array_size(missing); i > 0; i--)
        if (json_object_get(json_array_get(missing, i - 1), "by"))
            json_array_remove(missing, i - 1);
}

static int note(struct env_build *b, const struct ty_torch_choice *c, const struct ty_torch_node *n,
                const char *reason, bool warn)
{
    bool there = !*c->torch && n->torch;
    CLEANUP_FREE char *index = *c->index ? ty_env_mask(c->index) : NULL;

    json_decref(b->torch);
    b->torch = json_pack("{s:s?, s:s?, s:s, s:s?, s:s?, s:s}", "version", there ? n->torch : NULL,
                         "torchvision", *c->torchvision ? NULL : n->torchvision, "from",
                         there ? "system" : "index", "build", *c->build ? c->build : NULL, "index",
                         index, "reason", reason);
    if (b->torch && warn)
        json_object_set_new(b->torch, "warning", json_true());
    if (!b->torch)
        return -ENOMEM;
    env_log(b, "%s%s", warn ? "warning: " : "", reason);
    return 0;
}

/* ---- the seam ---- */

int env_torch_choose(struct env_build *b, struct ty_error *err)
{
    CLEANUP(wanted_done) struct wanted w = { 0 };
    struct ty_gpu_driver driver = { 0 };
    struct ty_torch_choice c;
    struct ty_torch_node n;
    struct ty_torch_ask ask;

    lack_no_more(b);
    if (!find_wanted(b, &w))
        return 0;
    ask = (struct ty_torch_ask){ w.torch, w.torchvision, b->q->use_gpu, index_of(b) };
    look_at_node(b, &n, &driver);
    ty_torch_choose(&ask, &n, &c);
    if (c.what == TY_TORCH_REFUSE)
        return ty_error_set(err, -ENOENT, "cannot build the environment: %s", c.reason);
    free(b->torch_index);
    b->torch_index = *c.index ? strdup(c.index) : NULL;
    if (note(b, &c, &n, c.reason, c.warn) < 0 || (*c.index && !b->torch_index) ||
        lack(b, "torch", c.torch, c.reason) < 0 ||
        lack(b, "torchvision", c.torchvision, c.reason) < 0)
        return ty_error_oom(err);
    return 0;
}

/* `how`: a word of reached.py's; NULL: none. */
static int ask_addresses(struct env_build *b, const char *how, const char *const *urls,
                         json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *script = ty_strf("%s/trainyard/reached.py", b->q->python_path);
    const char *argv[] = { b->interpreter, "-B", script, how, NULL };
    CLEANUP_STR struct ty_str lines = { 0 };
    struct env_program p = { .argv = argv,
                             .quiet = true,
                             .limit_seconds = REACH_SECONDS,
                             .doing = "asking whether an index answers" };
    struct env_said said;
    int r;

    for (; *urls; urls++)
        ty_str_addf(&lines, "%s\n", *urls);
    if (!script || lines.failed)
        return ty_error_oom(err);
    p.input = lines.text;
    r = env_run(b, &p, &said, err);
    if (r == 0 && (said.status != 0 || ty_json_parse(said.out.text, said.out.len, ret, err) < 0))
        r = ty_error_set(err, -EIO, "cannot ask whether an index answers (status %d): %.300s",
                         said.status, said.end.text ? said.end.text : "it said nothing");
    env_said_done(&said);
    return r;
}

int env_reached(struct env_build *b, const char *const *urls, json_t **ret, struct ty_error *err)
{
    return ask_addresses(b, NULL, urls, ret, err);
}

/* ---- how much it is ---- */

static const char *version_of(const json_t *list, const char *name)
{
    const json_t *one;
    size_t i;

    json_array_foreach (list, i, one) {
        const char *has = json_string_value(json_object_get(one, "name"));

        if (has && strcasecmp(has, name) == 0)
            return json_string_value(json_object_get(one, "version"));
    }
    return NULL;
}

/* Bytes of all items together; 0 where one does not tell. */
static uint64_t bytes_of(struct env_build *b, const json_t *items)
{
    CLEANUP_JSON json_t *answer = NULL;
    const char **urls = calloc(json_array_size(items) + 1, sizeof *urls);
    uint64_t sum = 0;
    struct ty_error err;
    json_t *one;
    size_t i;
    int r;

    for (i = 0; urls && i < json_array_size(items); i++)
        urls[i] = json_string_value(json_object_get(json_array_get(items, i), "url"));
    r = urls ? ask_addresses(b, "sizes", urls, &answer, &err) : -ENOMEM;
    for (i = 0; r == 0 && urls[i]; i++) {
        one = json_object_get(answer, urls[i]);
        if (!json_is_integer(one))
            r = -ENODATA;
        sum += (uint64_t)json_integer_value(one);
    }
    free(urls);
    return r < 0 ? 0 : sum;
}

/* PyTorch's wheels for CUDA bring its libraries as packages of their own. */
static bool are_for_cuda(const json_t *items)
{
    const json_t *one;
    size_t i;

    json_array_foreach (items, i, one)
        if (ty_starts_with(json_string_value(json_object_get(one, "name")), "nvidia-"))
            return true;
    return false;
}

void env_torch_weigh(struct env_build *b, const json_t *items)
{
    struct ty_gpu_driver driver = { 0 };
    CLEANUP_FREE char *reason = NULL;
    struct ty_torch_node n;
    char size[16] = "of unknown size";
    uint64_t bytes;

    if (!version_of(items, "torch") || b->q->offline)
        return;
    bytes = bytes_of(b, items);
    if (bytes)
        ty_show_bytes(bytes, size);
    env_log(b, "torch %s: %zu packages are fetched, %s", version_of(items, "torch"),
            json_array_size(items), size);
    look_at_node(b, &n, &driver);
    if (n.gpu || !b->torch || !are_for_cuda(items))
        return;
    reason = ty_strf(
        "%s; the only build that can be had here is for CUDA, of which this node has no use: %zu packages, "
        "%s (a mirror of PyTorch's index has builds for the CPU: env.torch_index)",
        json_string_value(json_object_get(b->torch, "reason")), json_array_size(items), size);
    if (!reason)
        return;
    env_log(b, "warning: %s", reason);
    json_object_set_new(b->torch, "reason", json_string(reason));
    json_object_set_new(b->torch, "warning", json_true());
}

int env_torch_reach(struct env_build *b, struct ty_error *err)
{
    CLEANUP_FREE char *page = b->torch_index ? ty_strf("%s/torch/", b->torch_index) : NULL,
                      *shown = NULL;
    const char *urls[] = { page, NULL }, *why;
    CLEANUP_JSON json_t *answer = NULL;
    int r;

    if (!b->torch_index || b->q->offline)
        return 0;
    r = page ? env_reached(b, urls, &answer, err) : ty_error_oom(err);
    if (r < 0)
        return r;
    why = json_string_value(json_object_get(answer, page));
    if (!why)
        return 0;
    shown = ty_env_mask(page);
    env_log(b, "%s does not have PyTorch (%s): pip's own index is asked",
            shown ? shown : "the index", why);
    b->torch_by_pip = true;
    return env_torch_choose(b, err);
}

int env_torch_fall_back(struct env_build *b, const struct ty_error *err)
{
    CLEANUP(wanted_done) struct wanted w = { 0 };
    struct ty_gpu_driver driver = { 0 };
    struct ty_torch_choice c = { 0 };
    struct ty_torch_node n;
    CLEANUP_FREE char *reason = NULL;

    if ((err->code != -ENOENT && err->code != -ENETUNREACH) ||
        !json_is_string(json_object_get(b->torch, "from")) ||
        strcmp(json_string_value(json_object_get(b->torch, "from")), "index") != 0 ||
        missing_spec(b, "missing", "torch") || missing_spec(b, "missing", "torchvision") ||
        !find_wanted(b, &w))
        return 0;
    look_at_node(b, &n, &driver);
    if (!n.torch || (w.torchvision && !n.torchvision) ||
        (w.torch && ty_torch_is_older(n.torch, w.torch)))
        return 0;
    lack_no_more(b);
    free(b->torch_index);
    b->torch_index = NULL;
    reason = ty_strf(
        "torch %s of the interpreter is used, since what was asked for ('%s'%s) cannot be had: %.300s",
        n.torch, w.torch ? w.torch : "torchvision", n.gpu ? ", built for CUDA" : "", err->text);
    return reason && note(b, &c, &n, reason, true) == 0;
}

static void settle(json_t *torch, const json_t *list, const char *package_name, const char *key,
                   const char *from)
{
    const char *version = version_of(list, package_name);

    if (!version)
        return;
    json_object_set_new(torch, key, json_string(version));
    if (strcmp(key, "version") == 0)
        json_object_set_new(torch, "from", json_string(from));
}

void env_torch_settle(struct env_build *b)
{
    if (!b->torch && (version_of(b->lock_pip, "torch") || version_of(b->lock_conda, "pytorch")))
        b->torch = json_pack("{s:s}", "reason", "it is one of the packages that are asked for");
    if (!b->torch)
        return;
    settle(b->torch, b->lock_conda, "pytorch", "version", "conda");
    settle(b->torch, b->lock_conda, "torchvision", "torchvision", "conda");
    settle(b->torch, b->lock_pip, "torch", "version", "index");
    settle(b->torch, b->lock_pip, "torchvision", "torchvision", "index");
}

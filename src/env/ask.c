/* ask.c - what an interpreter has, and what of the specification it lacks
 *
 * One start of that interpreter, with python/trainyard/asked.py: what satisfies a requirement is decided in one place, for the
 * SDK, which knows before a run is submitted, and here.
 */
#include "base/cleanup.h"
#include "env/env_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ASK_SECONDS 120 /* a cold network file system reads thousands of small files */

static json_t *texts(const char **v)
{
    json_t *list = json_array();

    for (; list && *v; v++)
        if (json_array_append_new(list, json_string(*v)) < 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static char *question(const struct ty_env_spec *s)
{
    const char *torch = s->torch ? "torch" : NULL, *vision = s->torchvision ? "torchvision" : NULL;
    const char *more[] = { torch ? torch : vision, torch ? vision : NULL, NULL };
    CLEANUP_JSON json_t *q =
        json_pack("{s:o, s:o, s:o, s:o, s:s?}", "pip", texts(s->pip), "conda", texts(s->conda),
                  "constraints", texts(s->constraints), "more", texts(more), "python", s->python);

    return q ? ty_json_text(q) : NULL;
}

int env_ask(struct env_build *b, const char *interpreter, json_t **ret, struct ty_error *err)
{
    CLEANUP_FREE char *asks = question(b->q->spec);
    CLEANUP_FREE char *script = ty_strf("%s/trainyard/asked.py", b->q->python_path);
    const char *argv[] = { interpreter, "-B", script, b->q->python_path, NULL };
    struct env_program p = { .argv = argv,
                             .input = asks,
                             .quiet = true,
                             .limit_seconds = ASK_SECONDS,
                             .doing = "asking an interpreter what it has" };
    struct env_said said;
    int r;

    if (!asks || !script)
        return ty_error_oom(err);
    r = env_run(b, &p, &said, err);
    if (r == 0 && b->q->view && said.status >= 125)
        r = ty_error_set(
            err, -ENOTSUP,
            "no packages can be installed on top of the image '%s': its '%s' cannot be run "
            "(status %d): %.300s",
            b->q->spec->image, interpreter, said.status,
            said.end.text && *said.end.text ? said.end.text : "it is not there");
    else if (r == 0 && said.status != 0 && said.end.text &&
             (strstr(said.end.text, "importlib.metadata") || strstr(said.end.text, "SyntaxError")))
        r = ty_error_set(
            err, -ENOTSUP,
            "the interpreter '%s' is older than Python 3.8, for which no environment can be built; "
            "name a newer one, or one that has all packages and say that it is user_managed",
            interpreter);
    else if (r == 0 &&
             (said.status != 0 || ty_json_parse(said.out.text, said.out.len, ret, err) < 0))
        r = ty_error_set(err, -EIO,
                         "cannot ask the interpreter '%s' what it has (status %d): %.300s",
                         interpreter, said.status,
                         said.end.text && *said.end.text ? said.end.text : "it said nothing");
    env_said_done(&said);
    return r;
}

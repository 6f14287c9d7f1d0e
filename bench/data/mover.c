/* mover.c - the mover of object data by itself, for its tests and its benchmark
 *
 *     mover ACCESS.json ls|validate|make [PREFIX]
 *     mover ACCESS.json up|down FOLDER [PREFIX] [--overwrite] [--parallel N] [--stop-after BYTES] [--quiet]
 *     mover ACCESS.json up1|down1 FILE PATH [...]
 *     mover ACCESS.json rm PATH
 *
 * Prints one line a file, "moved a/b", "there a/b", "failed a/b: why", then a line of JSON.  Exit status: 0, 1 (an error, on
 * stderr), 2 (used wrongly).
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/str.h"
#include "data/http.h"
#include "data/move.h"
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

struct list {
    struct ty_move_file *files;
    struct ty_object *objects;
    size_t n, room;
    const char *folder, *prefix;
};
static struct {
    bool quiet, keep_going;
    uint64_t stop_after;
} the;

static int add(struct list *l, char *local, char *path, const struct ty_object *o)
{
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->files = reallocarray(l->files, l->room, sizeof *l->files);
        l->objects = reallocarray(l->objects, l->room, sizeof *l->objects);
    }
    if (!l->files || !l->objects || !local || !path)
        return -ENOMEM;
    l->files[l->n] = (struct ty_move_file){ .local = local, .path = path };
    if (o) {
        l->objects[l->n] = *o;
        l->objects[l->n].etag = strdup(o->etag);
    }
    l->n++;
    return 0;
}

static int add_file(const char *rel, const struct stat *st, void *ctx)
{
    struct list *l = ctx;

    if (!S_ISREG(st->st_mode))
        return 0;
    return add(l, ty_path_join(l->folder, rel), *l->prefix ? ty_path_join(l->prefix, rel) : strdup(rel), NULL);
}

static int add_object(const struct ty_object *o, void *ctx)
{
    struct list *l = ctx;
    const char *rel = o->path + strlen(l->prefix);

    return add(l, ty_path_join(l->folder, *rel == '/' ? rel + 1 : rel), strdup(o->path), o);
}

static int show(const struct ty_object *o, void *ctx)
{
    char hex[33] = "-";

    (void)ctx;
    printf("%llu %s %s\n", (unsigned long long)o->bytes, o->has_md5 ? ty_md5_hex(o->md5, hex) : hex, o->path);
    return 0;
}

static int each(const struct ty_move_file *f, enum ty_move_what what, int code, const char *why,
                const struct ty_object *o, void *ctx)
{
    static const char *const words[] = { "moved", "there", "failed" };

    (void)ctx, (void)o;
    if (!the.quiet || what == TY_MOVE_FAILED)
        printf("%s %s%s%s\n", words[what], f->path, *why ? ": " : "", why);
    return what == TY_MOVE_FAILED && !the.keep_going ? code : 0;
}

static int progress(uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total, void *ctx)
{
    (void)total, (void)files, (void)files_total, (void)ctx;
    return the.stop_after && bytes >= the.stop_after;
}

/* getrusage() tells of the program that started this one, too. */
static long peak_kb(void)
{
    CLEANUP_FREE char *text = NULL;
    const char *at;

    if (ty_read_file("/proc/self/status", 65536, &text, NULL) < 0 || !(at = strstr(text, "VmHWM:")))
        return 0;
    return strtol(at + 6, NULL, 10);
}

static int run(struct ty_object_store *s, struct ty_http *h, const char *what, struct list *l,
               struct ty_move *m, struct ty_error *err)
{
    int64_t began = ty_mono_us();
    struct ty_move_sum sum = { 0 };
    int r = 0;

    if (strcmp(what, "up1") == 0 || strcmp(what, "down1") == 0)
        r = add(l, strdup(l->folder), strdup(l->prefix), NULL);
    else if (strcmp(what, "up") == 0)
        r = ty_walk(l->folder, add_file, l, err);
    else
        r = ty_object_list(s, h, l->prefix, add_object, l, err);
    for (size_t i = 0; strcmp(what, "down") == 0 && i < l->n; i++)
        l->files[i].object = &l->objects[i];
    if (r == 0)
        r = what[0] == 'u' ? ty_move_up(m, l->files, l->n, &sum, err) : ty_move_down(m, l->files, l->n, &sum, err);
    printf("{\"moved\": %llu, \"there\": %llu, \"failed\": %llu, \"bytes\": %llu, \"retries\": %llu, \"seconds\": %.3f, "
           "\"memory_kb\": %ld}\n",
           (unsigned long long)sum.moved, (unsigned long long)sum.was_there, (unsigned long long)sum.failed,
           (unsigned long long)sum.bytes, (unsigned long long)sum.retries, (double)(ty_mono_us() - began) / 1e6,
           peak_kb());
    return r;
}

static int act(struct ty_object_store *s, struct ty_http *h, char **words, struct ty_move *m,
               struct ty_error *err)
{
    struct list l = { .folder = words[1] ? words[1] : ".", .prefix = words[1] && words[2] ? words[2] : "" };
    const char *what = words[0];
    int r;

    m->store = s;
    m->http = h;
    m->each = each;
    m->progress = progress;
    if (strcmp(what, "ls") == 0)
        r = ty_object_list(s, h, words[1] ? words[1] : "", show, NULL, err);
    else if (strcmp(what, "validate") == 0)
        r = ty_object_validate(s, h, err);
    else if (strcmp(what, "make") == 0)
        r = ty_object_make_container(s, h, err);
    else if (strcmp(what, "rm") == 0 && words[1])
        r = ty_object_remove(s, h, words[1], err);
    else
        r = run(s, h, what, &l, m, err);
    for (size_t i = 0; i < l.n; i++) {
        free((char *)l.files[i].local);
        free((char *)l.files[i].path);
        if (l.files[i].object)
            free((char *)l.objects[i].etag);
    }
    free(l.files);
    free(l.objects);
    return r;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "overwrite", no_argument, NULL, 'o' },
                                             { "parallel", required_argument, NULL, 'p' },
                                             { "stop-after", required_argument, NULL, 's' },
                                             { "keep-going", no_argument, NULL, 'k' },
                                             { "quiet", no_argument, NULL, 'q' },
                                             { 0 } };
    struct ty_move m = { 0 };
    struct ty_object_store *s = NULL;
    struct ty_http *h = NULL;
    struct ty_error err = { 0 };
    CLEANUP_JSON json_t *access = NULL;
    CLEANUP_FREE char *text = NULL;
    int64_t n;
    size_t len;
    int c, r;

    while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (c == 'o')
            m.overwrite = true;
        else if (c == 'q')
            the.quiet = true;
        else if (c == 'k')
            the.keep_going = true;
        else if (c == 'p' && ty_parse_i64(optarg, &n) == 0)
            m.parallel = (unsigned)n;
        else if (c == 's' && ty_parse_i64(optarg, &n) == 0)
            the.stop_after = (uint64_t)n;
        else
            return 2;
    }
    if (argc - optind < 2)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    r = ty_read_file(argv[optind], 1 << 20, &text, &len);
    if (r == 0)
        r = ty_json_parse(text, len, &access, &err);
    if (r == 0)
        r = ty_object_open(access, &s, &err);
    if (r == 0)
        r = ty_http_new(m.parallel ? m.parallel : TY_MOVE_PARALLEL, &h, &err);
    if (r == 0)
        r = act(s, h, argv + optind + 1, &m, &err);
    if (r < 0)
        fprintf(stderr, "mover: %s (%d)\n", err.text, r);
    ty_http_free(h);
    ty_object_close(s);
    return r < 0;
}

/* inputs.c - the good inputs of each parser, and those that once broke something
 *
 *   inputs [FOLDER]       feed them all; TAP: good ones must be accepted, those in FOLDER/<parser>/, which once broke
 *                         something, survived
 *   inputs -w DIR NAME    write the good inputs of one parser into the folder
 */
#include "base/cleanup.h"
#include "base/fs.h"
#include "base/str.h"
#include "fuzz.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct corpus {
    const struct parser *parser;
    const char *folder; /* to write to; NULL: feed */
    int count, refused;
};

static bool feed(const struct parser *p, const char *bytes, size_t n)
{
    char *copy = malloc(n + 1);
    bool accepted;

    memcpy(copy, bytes, n);
    copy[n] = '\0';
    accepted = p->parse(copy, n);
    free(copy);
    return accepted;
}

void corpus_add(struct corpus *c, const void *bytes, size_t n)
{
    CLEANUP_FREE char *path = c->folder ? ty_strf("%s/good-%d", c->folder, c->count) : NULL;

    if (n == 0)
        return;
    c->count++;
    fuzz_patient = true;
    if (path ? ty_write_file(path, bytes, n, 0600) < 0 : !feed(c->parser, bytes, n)) {
        printf("# good input %d of %s was refused: %.100s\n", c->count, c->parser->name,
               (const char *)bytes);
        c->refused++;
    }
}

void corpus_text(struct corpus *c, const char *text)
{
    corpus_add(c, text, strlen(text));
}

/* How many there are. */
static int feed_broken(const struct parser *p, const char *broken)
{
    CLEANUP_FREE char *folder = ty_path_join(broken, p->name);
    CLEANUP_DIR DIR *d = opendir(folder);
    int n = 0;

    for (struct dirent *e; d && (e = readdir(d));) {
        CLEANUP_FREE char *path = ty_path_join(folder, e->d_name), *bytes = NULL;
        size_t len;

        if (e->d_name[0] == '.' || ty_read_file(path, FUZZ_INPUT_MAX, &bytes, &len) < 0)
            continue;
        fuzz_patient = false;
        feed(p, bytes, len);
        n++;
    }
    return n;
}

static int write_good(const char *folder, const char *name)
{
    struct corpus c = { .parser = parser_find(name), .folder = folder };

    if (!c.parser) {
        fprintf(stderr, "inputs: there is no parser '%s'\n", name);
        return 2;
    }
    c.parser->seed(&c);
    return c.refused > 0;
}

int main(int argc, char **argv)
{
    bool failed = false;
    int count = 0;

    if (argc == 4 && strcmp(argv[1], "-w") == 0)
        return write_good(argv[2], argv[3]);
    for (const struct parser *p = parsers; p->name; p++) {
        struct corpus c = { .parser = p };
        int broken;

        p->seed(&c);
        broken = argc > 1 ? feed_broken(p, argv[1]) : 0;
        printf("%s %d - %s: %d good inputs, %d that once broke something\n",
               c.refused ? "not ok" : "ok", ++count, p->name, c.count, broken);
        fflush(stdout);
        failed |= c.refused > 0;
    }
    printf("1..%d\n", count);
    return failed;
}

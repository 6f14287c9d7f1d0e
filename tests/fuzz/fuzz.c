/* fuzz.c - feeds each parser with good inputs that were damaged
 *
 *   fuzz [-r ROUNDS | -t SECONDS] [-s SEED] [PARSER...]    results as TAP
 *   fuzz -f FILE PARSER                                    one input again
 *
 * The input of the moment lies in ./fuzz-input, which is removed at a good end: what killed the program is kept.
 */
#include "fuzz.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/str.h"
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEEDS_MAX 64
#define EDITS_MAX 6
#define LAST "fuzz-input"

struct corpus {
    struct {
        char *bytes;
        size_t n;
    } seeds[SEEDS_MAX];
    size_t count;
};

struct input {
    char bytes[FUZZ_INPUT_MAX + 1];
    size_t n;
};

static uint64_t state;

static uint64_t random_below(uint64_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return n ? state % n : 0;
}

void corpus_add(struct corpus *c, const void *bytes, size_t n)
{
    if (c->count == SEEDS_MAX || n == 0 || n > FUZZ_INPUT_MAX)
        return;
    c->seeds[c->count].bytes = malloc(n + 1);
    memcpy(c->seeds[c->count].bytes, bytes, n);
    c->seeds[c->count].bytes[n] = '\0';
    c->seeds[c->count++].n = n;
}

void corpus_text(struct corpus *c, const char *text)
{
    corpus_add(c, text, strlen(text));
}

/* ---- damage ---- */

static void insert(struct input *in, size_t at, const char *bytes, size_t n)
{
    if (in->n + n > FUZZ_INPUT_MAX)
        return;
    memmove(in->bytes + at + n, in->bytes + at, in->n - at);
    memcpy(in->bytes + at, bytes, n);
    in->n += n;
}

static void cut(struct input *in, size_t at, size_t n)
{
    memmove(in->bytes + at, in->bytes + at + n, in->n - at - n);
    in->n -= n;
}

static void put_number(struct input *in, size_t at)
{
    static const uint64_t numbers[] = { 0,
                                        1,
                                        0x7f,
                                        0x80,
                                        0xff,
                                        0xffff,
                                        0x7fffffff,
                                        0x80000000,
                                        0xffffffff,
                                        INT64_MAX,
                                        (uint64_t)INT64_MIN,
                                        UINT64_MAX };
    uint64_t v = numbers[random_below(sizeof numbers / sizeof *numbers)] + random_below(3) - 1;
    size_t width = (size_t)1 << random_below(4);

    if (at + width <= in->n)
        memcpy(in->bytes + at, &v, width);
}

static void put_word(struct input *in, size_t at)
{
    static const char *const words[] = { "9223372036854775808",
                                         "-1",
                                         "1e999",
                                         "null",
                                         "{}",
                                         "[]",
                                         "\"",
                                         "\\u0000",
                                         "\xff",
                                         "../",
                                         "/",
                                         "%00",
                                         "%",
                                         "\n",
                                         "\r\n",
                                         "\xe2\x82",
                                         "true",
                                         "[[[[[[[[",
                                         "\0" };
    const char *word = words[random_below(sizeof words / sizeof *words)];

    insert(in, at, word, *word ? strlen(word) : 1);
}

static void edit(struct input *in, const struct corpus *c)
{
    size_t at = random_below(in->n + 1), other = random_below(c->count);
    size_t span = in->n > at ? 1 + random_below(in->n - at < 32 ? in->n - at : 32) : 0;
    char byte = (char)random_below(256);

    switch (random_below(7)) {
    case 0:
        if (at < in->n)
            in->bytes[at] ^= (char)(1 << random_below(8));
        break;
    case 1:
        insert(in, at, &byte, 1);
        break;
    case 2:
        cut(in, at, span);
        break;
    case 3: {
        char copy[32];

        memcpy(copy, in->bytes + at, span);
        insert(in, random_below(in->n + 1), copy, span);
        break;
    }
    case 4:
        put_number(in, at);
        break;
    case 5:
        put_word(in, at);
        break;
    default: { /* the rest from another good input */
        size_t from = random_below(c->seeds[other].n + 1);

        in->n = at;
        insert(in, at, c->seeds[other].bytes + from, c->seeds[other].n - from);
    }
    }
}

static void make(struct input *in, const struct corpus *c)
{
    size_t seed = random_below(c->count);

    in->n = c->seeds[seed].n;
    memcpy(in->bytes, c->seeds[seed].bytes, in->n);
    for (uint64_t edits = random_below(EDITS_MAX + 1); edits > 0; edits--)
        edit(in, c);
}

/* ---- running ---- */

/* A copy with nothing readable behind it, so that the sanitizer sees a step too far. */
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

static char *map_last(void)
{
    int fd = open(LAST, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, FUZZ_INPUT_MAX) == 0)
        p = mmap(NULL, FUZZ_INPUT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static int64_t run(const struct parser *p, int64_t rounds, int64_t until_us)
{
    struct corpus c = { 0 };
    static struct input in;
    char *last = map_last();
    bool refused = false;
    int64_t done = 0;

    p->seed(&c);
    for (size_t i = 0; i < c.count; i++)
        if (!feed(p, c.seeds[i].bytes, c.seeds[i].n)) {
            printf("# good input %zu of %s was refused: %.100s\n", i, p->name, c.seeds[i].bytes);
            refused = true;
        }
    for (; until_us ? ty_mono_us() < until_us : done < rounds; done++) {
        make(&in, &c);
        if (last) {
            memcpy(last, in.bytes, in.n);
            last[in.n < FUZZ_INPUT_MAX ? in.n : FUZZ_INPUT_MAX - 1] = '\0';
        }
        feed(p, in.bytes, in.n);
    }
    if (last)
        munmap(last, FUZZ_INPUT_MAX);
    unlink(LAST);
    for (size_t i = 0; i < c.count; i++)
        free(c.seeds[i].bytes);
    return refused ? -1 : done;
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static int replay(const char *file, const char *name)
{
    CLEANUP_FREE char *text = NULL;
    size_t n;

    for (const struct parser *p = parsers; p->name; p++)
        if (strcmp(p->name, name) == 0 && ty_read_file(file, FUZZ_INPUT_MAX, &text, &n) == 0) {
            feed(p, text, n);
            return 0;
        }
    fprintf(stderr, "fuzz: no parser '%s', or no file '%s'\n", name, file);
    return 2;
}

int main(int argc, char **argv)
{
    int64_t rounds = 2000, seconds = 0, seed = 1;
    const char *file = NULL;
    int c, count = 0;
    bool failed = false;

    while ((c = getopt(argc, argv, "r:t:s:f:")) >= 0) {
        int64_t *number = c == 'r' ? &rounds : c == 't' ? &seconds : &seed;

        if (c == '?' || (c != 'f' && ty_parse_i64(optarg, number) < 0))
            return 2;
        if (c == 'f')
            file = optarg;
    }
    if (file)
        return optind < argc ? replay(file, argv[optind]) : 2;
    for (const struct parser *p = parsers; p->name; p++)
        if (wanted(p->name, argv + optind)) {
            state = (uint64_t)seed * 0x9e3779b97f4a7c15u | 1;
            int64_t done = run(p, rounds, seconds ? ty_mono_us() + seconds * 1000000 : 0);

            printf("%s %d - %s: %lld inputs, seed %lld\n", done < 0 ? "not ok" : "ok", ++count,
                   p->name, (long long)done, (long long)seed);
            failed |= done < 0;
            fflush(stdout);
        }
    printf("1..%d\n", count);
    return failed;
}

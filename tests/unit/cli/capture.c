/* capture.c - run the command line inside the test, and keep what it prints */
#include "capture.h"
#include "base/fs.h"
#include "cli/cli.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORDS_MAX 40

static char *content(int fd, size_t *n)
{
    struct stat st;
    char *text;

    if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0 ||
        !(text = calloc(1, (size_t)st.st_size + 1)) ||
        ty_read_full(fd, text, (size_t)st.st_size) != st.st_size)
        abort();
    *n = (size_t)st.st_size;
    close(fd);
    return text;
}

struct captured capture_call(int (*fn)(void *ctx), void *ctx)
{
    int fds[3] = { open("/dev/null", O_RDONLY | O_CLOEXEC), memfd_create("out", MFD_CLOEXEC),
                   memfd_create("err", MFD_CLOEXEC) },
        old[3], i;
    struct captured c;
    size_t unused;

    fflush(NULL);
    for (i = 0; i < 3; i++) {
        old[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
        if (fds[i] < 0 || old[i] < 0 || dup2(fds[i], i) < 0)
            abort();
    }
    c.code = fn(ctx);
    fflush(NULL);
    for (i = 0; i < 3; i++) {
        dup2(old[i], i);
        close(old[i]);
    }
    close(fds[0]);
    c.out = content(fds[1], &c.out_len);
    c.err = content(fds[2], &unused);
    return c;
}

static int run(void *ctx)
{
    char **argv = ctx;
    int argc = 0;

    while (argv[argc])
        argc++;
    return ty_cli_main(argc, argv);
}

struct captured capture(const char *home, const char *const *words)
{
    char *argv[WORDS_MAX] = { (char *)"trainyard" };
    int n = 1;

    if (home) {
        argv[n++] = (char *)"--home";
        argv[n++] = (char *)home;
    }
    while (*words && n < WORDS_MAX - 1)
        argv[n++] = (char *)*words++;
    return capture_call(run, argv);
}

void captured_done(struct captured *c)
{
    free(c->out);
    free(c->err);
}

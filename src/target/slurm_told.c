/* slurm_told.c - telling the keeper of a target what is to be kept
 *
 * The daemon starts this program when a target has come, has changed, or is gone, so that it waits for nobody.
 */
#include "target/slurm_told.h"
#include "base/error.h"
#include "base/fs.h"
#include "base/json.h"
#include "target/slurm_channel.h"
#include "target/slurm_lines.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SPEC_MAX (8 << 20)
#define ANSWER_MS 10000

int ty_slurm_told_main(const char *agent, const char *folder)
{
    CLEANUP_FREE char *text = malloc(SPEC_MAX);
    CLEANUP_JSON json_t *spec = NULL;
    struct ty_lines lines = { 0 };
    struct ty_error err = { 0 };
    ssize_t n = text ? ty_read_full(STDIN_FILENO, text, SPEC_MAX) : -ENOMEM;
    int fd = -1, r = n < 0 ? (int)n : ty_json_parse(text, (size_t)n, &spec, &err);

    /* Who has started this waits for its end, which comes when the input is read; the keeper may take its time. */
    if (fork() > 0)
        return 0;
    if (r == 0)
        r = fd = ty_slurm_keeper_reach(agent, folder, NULL, &err);
    if (r >= 0) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        ty_lines_add(&lines, json_pack("{s:O}", "keep", spec));
        while (ty_lines_waiting(&lines) && (r = ty_lines_send(&lines, fd, NULL)) == 0)
            poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, ANSWER_MS);
        poll(&p, 1, ANSWER_MS); /* it has been read when there is an answer */
    }
    ty_lines_done(&lines);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    return r < 0;
}

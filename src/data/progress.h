/* progress.h - how far the bringing of data is, told now and then: first after 3 s, then every 10 s */
#ifndef TY_PROGRESS_H
#define TY_PROGRESS_H
#include <stdint.h>

struct ty_progress {
    const char *name; /* of the data reference */
    void (*note)(const char *text, void *ctx);
    void *ctx;
    int64_t due_us; /* 0: at first */
};
/* "data reference 'x': 3.1 GiB of 10 GiB, 120 of 500 files".  total and files_total 0: not known. */
void ty_progress_tell(struct ty_progress *p, uint64_t bytes, uint64_t total, uint64_t files, uint64_t files_total);
#endif

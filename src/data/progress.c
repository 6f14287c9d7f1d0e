/* progress.c - sentences on how far the bringing of data is */
#include "data/progress.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include <inttypes.h>

#define FIRST_US (3 * 1000 * 1000)
#define STEP_US (10 * 1000 * 1000)

void ty_progress_tell(struct ty_progress *p, uint64_t bytes, uint64_t total, uint64_t files,
                      uint64_t files_total)
{
    int64_t now = ty_mono_us();
    CLEANUP_STR struct ty_str text = { 0 };
    char size[16];

    if (p->due_us == 0)
        p->due_us = now + FIRST_US;
    if (now < p->due_us || !p->note)
        return;
    p->due_us = now + STEP_US;
    ty_str_addf(&text, "data reference '%s': %s", p->name, ty_show_bytes(bytes, size));
    if (total > 0)
        ty_str_addf(&text, " of %s", ty_show_bytes(total, size));
    ty_str_addf(&text, ", %" PRIu64, files);
    if (files_total > 0)
        ty_str_addf(&text, " of %" PRIu64, files_total);
    ty_str_add(&text, " files");
    if (!text.failed)
        p->note(text.text, p->ctx);
}

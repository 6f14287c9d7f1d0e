/* row_writer.c - a job that logs rows: row_writer COUNT PAUSE_EVERY, into $TRAINYARD_SPOOL_DIR
 *
 * Row i has the name "loss", step i and the value i / 2.  It stops for a millisecond after every
 * PAUSE_EVERY rows. */
#include "base/error.h"
#include "base/str.h"
#include "runner/spool.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct ty_spool_writer *w = NULL;
    struct ty_error err;
    int64_t count, pause;

    if (argc != 3 || ty_parse_i64(argv[1], &count) < 0 || ty_parse_i64(argv[2], &pause) < 0)
        return 2;
    if (ty_spool_create(getenv("TRAINYARD_SPOOL_DIR"), &w, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (int64_t i = 0; i < count; i++) {
        double v = (double)i / 2;
        struct ty_row row = { .kind = TY_ROW_DOUBLE,
                              .step = i,
                              .at_us = 1,
                              .name = "loss",
                              .name_len = 4,
                              .value = &v,
                              .value_len = sizeof v };

        if (ty_spool_write(w, &row) < 0)
            return 1;
        if (pause > 0 && i % pause == pause - 1)
            usleep(1000);
    }
    ty_spool_writer_free(w);
    puts("logged");
    return 0;
}

/* data_internal.h - what the files of data.h share
 *
 *   data.c         folders, and what the courier brings and takes back
 *   data_object.c  object stores
 */
#ifndef TY_RUNNER_DATA_INTERNAL_H
#define TY_RUNNER_DATA_INTERNAL_H
#include "data/stage.h"
#include "runner/data.h"

/* What a reference's name in the folder of the job's data is: the last part of its path. */
const char *ty_data_leaf(const struct ty_data_ref *ref);
char *ty_data_listing(const struct ty_jobfile *j, int i); /* malloc'ed */
/* A download whose place is free goes there at once: *place (malloc'ed). */
bool ty_data_straight(const struct ty_stage *s, char **place);

/* Did ty_data_in() come to its end? */
bool ty_data_was_brought(const struct ty_jobfile *j);

int ty_data_object_in(const struct ty_jobfile *j, int i, int out, struct ty_error *err);
/* As the owner, in the collecting child; what fails is a warning. */
void ty_data_object_out(const struct ty_jobfile *j, int i, int out);
#endif

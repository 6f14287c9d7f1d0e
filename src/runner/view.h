/* view.h - the job's view of the file system (env/view.h): the tool is found and the image fetched while the job is prepared,
 * and each rank is started through it */
#ifndef TY_RUNNER_VIEW_H
#define TY_RUNNER_VIEW_H
#include "env/view.h"
#include "runner/jobfile.h"
#include "runner/ranks.h"
struct ty_error;
struct ty_runner;

/* For the preparing child, as the job's user: is the tool here; is the image?  Lines of fetching go to the build log. */
int ty_view_prepare(const struct ty_jobfile *j, int out, struct ty_error *err);
/* The same view for programs that install packages on top of an image. */
struct ty_view_builder {
    struct ty_view view;
    char *id;             /* malloc'ed: of the image; NULL: the job has none, and the rest says nothing */
    char *packages;       /* malloc'ed */
    const char *paths[8]; /* which the view borrows */
};
int ty_view_of_builder(const struct ty_jobfile *j, struct ty_view_builder *ret, struct ty_error *err);
void ty_view_builder_done(struct ty_view_builder *b);
/* What runs the script: in an image the image's own Python, unless the user has named one.  NULL: as without a view. */
const char *ty_view_interpreter(const struct ty_jobfile *j);
/* Replace *env and *argv (malloc'ed vectors) by those of the tool.  *after: malloc'ed, what clears up behind a tool that was
 * killed; NULL: nothing.  `places`: of the data references. */
int ty_view_of_rank(const struct ty_runner *r, const struct ty_rank_plan *p, char **places, char ***env, char ***argv,
                    char ***after, struct ty_error *err);
#endif

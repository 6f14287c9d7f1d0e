/* page.h - the pages that browsers are shown
 *
 *   page.c      what all have in common; the list of runs; static files
 *   page_run.c  one run
 *   page_machines.c  machines, targets, who waits, datastores
 *   page_environment.c  what it had of Python and packages
 *   html.c  html_chart.c  markup
 */
#ifndef TY_HTTP_PAGE_H
#define TY_HTTP_PAGE_H
#include "http/html.h"
#include "http/request.h"

struct static_file {
    const char *name, *type, *etag;
    const unsigned char *bytes;
    size_t n;
};
extern const struct static_file static_files[]; /* made by the build; the last has no name */

/* From the doctype to the open <body>, which gets `attributes` (markup), then the header; `place` is where we are. */
void page_begin(struct ty_str *s, const char *title, const char *attributes, const char *place);
void page_end(struct ty_str *s);
void page_state(struct ty_str *s, const char *state, const char *id); /* id NULL: none */
void page_experiment(struct ty_str *s, const char *experiment); /* a link to its runs */
/* How long a run has taken so far, or waited; from its times. */
void page_took(struct ty_str *s, const json_t *run);
/* A section; nothing when there is no record (docs/spec/environment.md). */
void page_environment(struct ty_str *s, const json_t *record);
int page_reply(struct request *req, struct ty_str *page); /* takes the text */
#endif

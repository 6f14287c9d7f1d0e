/* helper.h - `trainyard-agent data`: one request to an object store, in a process of its own
 *
 * docs/spec/data-helper.md has what is read from `in` and written to `out`.
 */
#ifndef TY_DATA_HELPER_H
#define TY_DATA_HELPER_H

/* Reads one request, does it, says what came of it.  The exit code: 0, 1 (an `error` was said), 2 (nothing could be read).  Ends the
 * process at once when nobody reads `out` any more. */
int ty_data_helper(int in, int out);
#endif

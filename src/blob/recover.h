/* recover.h - after a power cut: blobs that had their name, but not yet all of their bytes on the disk
 *
 * A blob gets its name before it is synced, and a snapshot is acknowledged after one sync of all its blobs.  A power cut
 * between the two may leave a blob that is too short; taken for whole, it would spoil every later snapshot that holds it.
 * On a network file system a blob gets its name when the server has it, for other machines may look; there is nothing to recover.
 * The file `synced` in the store knows the boot that the store was last used in, and its mtime when the last sync began.
 */
#ifndef TY_RECOVER_H
#define TY_RECOVER_H
#include <stdint.h>

/* The first opener of a boot reads the blobs that were put or touched since the last sync, and removes those that are not
 * what their name says; others wait for it.  A descriptor of `synced`, or -1 where the store cannot be written to. */
int ty_blobs_recover(int dirfd);
/* Everything that was put before began_us is on the disk.  `mark` as returned above. */
void ty_blobs_synced(int mark, int64_t began_us);
#endif

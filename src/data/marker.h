/* marker.h - is a folder here the same as one of that path on another machine?
 *
 * A datastore's folder gets the file ".trainyard-datastore" with a random word in it: where the same word is found under the same path, in a
 * file of the same inode number, the folder is the same one (a shared file system).  A copy of the folder has the word, too, and another inode;
 * a file system that numbers files anew on each machine (sshfs) counts as another folder, which costs only that files travel.  Where it cannot be written (a read-only share) the folder is told by
 * what no copy has in common with it: inode numbers and times of the folder and of its first entries.
 */
#ifndef TY_MARKER_H
#define TY_MARKER_H
#include <stdbool.h>

#define TY_MARKER_NAME ".trainyard-datastore"
#define TY_MARKER_TOKEN 80 /* bytes of a token, with its NUL */

/* The token of a folder, which is marked if need be.  0 or a negative errno: it cannot be read, or is none. */
int ty_marker_token(const char *folder, char token[TY_MARKER_TOKEN]);
/* Is this the folder that the token is of? */
bool ty_marker_fits(const char *folder, const char *token);
#endif

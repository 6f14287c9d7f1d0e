/* xml.h - reading the answers of object stores
 *
 * Answers are flat: what counts is the text of the innermost elements, and where the others end.
 */
#ifndef TY_XML_H
#define TY_XML_H
#include <stddef.h>
struct ty_error;

#define TY_XML_DEPTH_MAX 16
#define TY_XML_PATH_MAX 256 /* bytes of the names above an element, with slashes */

/* fn is called at the end of each element with its path ("ListBucketResult/Contents/Key", prefixes of name spaces left
 * out) and the text that stood in it since its own start or the end of its last child; a negative return stops and is
 * returned.  -EINVAL: it is no XML, has a DOCTYPE, or goes too deep. */
int ty_xml_each(const char *text, size_t n, int (*fn)(const char *path, const char *text, void *ctx), void *ctx,
                struct ty_error *err);
/* Append `text` so that it can stand in an element. */
struct ty_str;
void ty_xml_add(struct ty_str *s, const char *text);
#endif

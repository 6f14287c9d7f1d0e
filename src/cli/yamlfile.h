/* yamlfile.h - the part of YAML that conda files use, as JSON
 *
 * Mappings, lists and texts; scalars stay texts ("3.10" is no number), what is not there is null.  Anchors, aliases, tags and
 * second documents are refused by line.  The same as azureml.core._yaml reads.
 */
#ifndef TY_CLI_YAMLFILE_H
#define TY_CLI_YAMLFILE_H
#include "base/json.h"
struct ty_error;

/* The mapping that the file holds; an empty file: an empty one.  `what` names the file in the sentence of an -EINVAL. */
int ty_yaml_parse(const char *text, size_t n, const char *what, json_t **ret, struct ty_error *err);
#endif

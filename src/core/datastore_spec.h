/* datastore_spec.h - how a datastore is described (docs/spec/data-helper.md, "Access")
 *
 * Parsing checks every key by name, fills in what has a default, and parts the credentials from the rest, so that
 * neither a list nor a log can have them by accident.  No text from here quotes a credential.
 */
#ifndef TY_DATASTORE_SPEC_H
#define TY_DATASTORE_SPEC_H
#include "base/json.h"
struct ty_error;

#define TY_DATASTORE_VALUE_MAX 8192 /* bytes of one value: session tokens are long */

struct ty_datastore_spec {
    const char *kind;        /* "file", "s3", "azureblob"; a literal */
    const char *credentials; /* "none", "access_key", "account_key", "sas_token"; a literal */
    json_t *config;          /* owned; complete, without credentials */
    json_t *secrets;         /* owned; an object, empty with "none" */
};
/* kind: also "azurefile", which becomes "file" when `root` says where the share is mounted.  -EINVAL, and a sentence
 * that names the key. */
int ty_datastore_spec_parse(const char *kind, const json_t *config, struct ty_datastore_spec *ret,
                            struct ty_error *err);
void ty_datastore_spec_done(struct ty_datastore_spec *s);
#define CLEANUP_DATASTORE_SPEC CLEANUP(ty_datastore_spec_done)
/* Is it reached over the network by who moves the bytes, instead of being a folder? */
bool ty_datastore_is_object(const char *kind);
/* ACCESS: {"name","kind","config"} with the secrets (NULL: none) among the config; NULL: out of memory. */
json_t *ty_datastore_access(const char *name, const char *kind, const json_t *config,
                            const json_t *secrets);
#endif

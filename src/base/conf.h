/* conf.h - configuration, by precedence
 *
 * flag > environment TRAINYARD_<SECTION>_<KEY> > ./.trainyard/config (searched upwards) >
 * $XDG_CONFIG_HOME/trainyard/config > /etc/trainyard/config > default.  Files are INI.
 * Every option stands once, in the table in conf.c, with its default, unit and one line of help: an unknown
 * key in a file is an error that names the file and the line.
 */
#ifndef TY_CONF_H
#define TY_CONF_H
#include <stdbool.h>
#include <stdint.h>
struct ty_error;
struct ty_conf;

/* `start_dir` NULL: no project file. */
int ty_conf_load(const char *start_dir, struct ty_conf **ret, struct ty_error *err);
struct ty_conf *ty_conf_free(struct ty_conf *c);
/* `key` is "section.name" and must be in the table (asserted).  Text is owned by c. */
const char *ty_conf_text(const struct ty_conf *c, const char *key);
int64_t ty_conf_number(const struct ty_conf *c, const char *key); /* bytes and seconds are parsed at load */
bool ty_conf_bool(const struct ty_conf *c, const char *key);
/* Where the value came from: "default", "environment", or the file's path. */
const char *ty_conf_origin(const struct ty_conf *c, const char *key);
int ty_conf_set(struct ty_conf *c, const char *key, const char *value, const char *origin, struct ty_error *err);
/* The n-th option of the table, for `--help`, docs and tests; NULL after the last. */
struct ty_conf_option {
    const char *key, *fallback, *kind /* text | bytes | seconds | count | bool */, *help;
};
const struct ty_conf_option *ty_conf_option(int n);

/* A daemon of the whole machine: its state folder, and the file in it, root's, that says so. */
#define TY_SYSTEM_HOME "/var/lib/trainyard"
#define TY_SYSTEM_MARK "system"
bool ty_home_is_system(const char *home);
#define TY_RESTORED_MARK "restored" /* the folder came out of a backup, and no daemon has served it since */

/* The state folder: $TRAINYARD_HOME, else the machine's where there is one, else $XDG_STATE_HOME/trainyard, else ~/.local/state/trainyard.  malloc'ed. */
int ty_home(char **ret, struct ty_error *err);
#endif

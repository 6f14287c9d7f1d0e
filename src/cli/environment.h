/* environment.h - from --pip, --requirements, --conda-file and their like to the `environment` of a run specification
 * (docs/spec/environment.md) */
#ifndef TY_CLI_ENVIRONMENT_H
#define TY_CLI_ENVIRONMENT_H
#include "base/json.h"
#include "cli/cli.h"

/* clang-format off */
#define TY_ENVIRONMENT_OPTIONS \
    { 0, "pip", "PACKAGE", "package for pip, such as 'pandas>=2' (repeat)" }, \
    { 0, "requirements", "FILE", "requirements file of pip (repeat)" }, \
    { 0, "conda-file", "FILE", "environment file of conda" }, \
    { 0, "python-version", "VERSION", "version of Python, such as 3.11" }, \
    { 0, "torch", "VERSION", "version of PyTorch, such as 2.1; any: whatever is there" }, \
    { 0, "environment", "NAME[:VERSION]", "registered environment, in place of the options above" }
#define TY_VIEW_OPTIONS \
    { 0, "image", "NAME", "run in this image, by podman, docker or apptainer" }, \
    { 0, "shm-size", "SIZE", "of /dev/shm in the image, such as 2g (default: the machine's)" }, \
    { 0, "sandbox", NULL, "show the job a private view of the file system (bubblewrap)" }
#define TY_OPT_CACHE \
    { 0, "cache", "DIR", "folder of the cache (default: that of the runs of this machine)" }
/* clang-format on */

/* What the options ask for; *ret NULL: none was given.  -EINVAL, or what reading a file gave. */
int ty_environment_asked(const struct ty_cli *cli, json_t **ret, struct ty_error *err);

/* What --environment names, asked of the service (cli->client is open): as ty_environment_asked, and *variables (object of texts, or
 * NULL) that go with it.  AzureML-Minimal, AzureML-Tutorial and AzureML-PyTorch-<version>... are known without being registered. */
int ty_environment_registered(struct ty_cli *cli, json_t **ret, json_t **variables, struct ty_error *err);

/* The lines of a requirements file, which lies in the folder `dir`, into `env`. */
int ty_environment_requirements(json_t *env, const char *path, struct ty_error *err);
int ty_environment_conda_file(json_t *env, const char *path, struct ty_error *err);

/* The folder of the cache of environments and data: --cache, else where the runs of this machine have theirs.  malloc'ed. */
int ty_environment_cache(const struct ty_cli *cli, char **ret, struct ty_error *err);
#endif

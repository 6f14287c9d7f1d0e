/* doctor_tools.c - programs and libraries that Trainyard uses where they are there, each with what it is for
 *
 * Only pip is missed by many: without it no environment with packages can be built.
 */
#include "base/cleanup.h"
#include "base/program.h"
#include "base/str.h"
#include "cli/doctor.h"
#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

/* One of several programs that do the same. */
static const struct tool {
    const char *check, *programs[4], *with, *without;
} tools[] = {
    { "conda",
      { "micromamba", "mamba", "conda" },
      "conda_packages of environments are installed with it",
      "conda_packages of environments are installed by a client from the package index" },
    { "uv",
      { "uv" },
      "pip packages of environments are installed with it, which is faster",
      "pip packages of environments are installed by pip" },
    { "containers",
      { "podman", "docker", "apptainer" },
      "custom images run with it",
      "runs with a custom image are refused here (sudo apt install podman)" },
    { "bubblewrap",
      { "bwrap" },
      "runs may have a private view of the files (sandbox)",
      "runs that ask for a sandbox are refused here (sudo apt install bubblewrap)" },
    { "rclone",
      { "rclone" },
      "object stores are mounted with it",
      "mounted object stores are copied before a run, and back after it (sudo apt install rclone fuse3)" },
};

static char *find_any(const struct tool *t)
{
    char *path = NULL;

    for (size_t i = 0; i < sizeof t->programs / sizeof *t->programs && t->programs[i] && !path; i++)
        path = ty_program_find(t->programs[i], NULL);
    return path;
}

static void check_pip(struct doctor *d)
{
    CLEANUP_FREE char *found = ty_program_find("python3", NULL);
    const char *python = access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : found;
    const char *pip[] = { python, "-m", "pip", "--version", NULL },
               *venv[] = { python, "-c", "import venv, ensurepip", NULL };
    char line[128] = "", none[8];
    bool has_venv;

    if (!python)
        return; /* said before */
    has_venv = doctor_first_line(venv, none, sizeof none);
    if (doctor_first_line(pip, line, sizeof line)) {
        char *from = strstr(line, " from ");

        if (from)
            *from = '\0';
        doctor_note(d, "pip", GOOD, NULL, "%s of '%s': pip packages of environments", line, python);
    } else if (has_venv) {
        doctor_note(d, "pip", GOOD, NULL,
                    "'%s' has none, and can make one where an environment needs it", python);
    } else {
        doctor_note(d, "pip", DOUBT, "sudo apt install python3-pip python3-venv",
                    "'%s' has no pip: environments with packages cannot be built", python);
    }
    if (has_venv)
        doctor_note(d, "venv", GOOD, NULL, "'%s' has it: environments are made with it", python);
    else
        doctor_note(
            d, "venv", line[0] ? GOOD : DOUBT, line[0] ? NULL : "sudo apt install python3-venv",
            "'%s' has no ensurepip; environments are made without it as long as there is pip",
            python);
}

static void check_curl(struct doctor *d)
{
    static const char *const names[] = { "libcurl.so.4", "libcurl-gnutls.so.4" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);

        if (!lib)
            continue;
        dlclose(lib);
        doctor_note(d, "libcurl", GOOD, NULL,
                    "%s: object stores (S3, Azure Blob) are reached with it", names[i]);
        return;
    }
    doctor_note(
        d, "libcurl", GOOD, NULL,
        "not here: object stores (S3, Azure Blob) cannot be reached (sudo apt install libcurl4)");
}

void doctor_tools(struct doctor *d)
{
    check_pip(d);
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++) {
        CLEANUP_FREE char *path = find_any(&tools[i]);

        if (path)
            doctor_note(d, tools[i].check, GOOD, NULL, "%s: %s", path, tools[i].with);
        else
            doctor_note(d, tools[i].check, GOOD, NULL, "not here: %s", tools[i].without);
    }
    check_curl(d);
}

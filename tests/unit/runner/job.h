/* job.h - a job folder with everything around it, and a runner at work on it, for tests */
#ifndef TEST_JOB_H
#define TEST_JOB_H
#include "fake_daemon.h"
#include <sys/types.h>

struct job {
    char home[64]; /* a state folder of its own */
    char *dir;     /* the job folder */
    json_t *json;  /* what job.json will say; change it before job_write */
    struct fake fake;
    pid_t runner;  /* 0: none */
    int status;    /* of the last runner that ended */
};
/* A job that runs `command` (a shell text) as a command, or with `script` not NULL the file
 * train.sh with that content as a script of the interpreter /bin/sh, from a snapshot. */
void job_make(struct job *j, const char *command, const char *script);
void job_write(struct job *j);
json_t *job_spec(struct job *j); /* borrowed */
/* Start the runner; `fault` (NULL: none) is TY_FAULT, `boot` (NULL: the real one)
 * TRAINYARD_TEST_BOOT_ID. */
void job_start(struct job *j, const char *fault, const char *boot);
/* Serve until `until` says so; fails the test after 20 seconds. */
void job_until(struct job *j, bool (*until)(struct job *j));
bool job_over(struct job *j);       /* the runner has ended (and is reaped) */
bool job_has_output(struct job *j); /* the driver log, at the daemon, has a line "ready" */
bool job_collected(struct job *j);  /* the record `collected` is there */
/* Processes that have the job's mark in their environment. */
int job_processes(const struct job *j);
/* The pid of the job's process whose name in /proc/PID/comm is `name`; 0: none. */
pid_t job_find(const struct job *j, const char *name);
bool job_nobody(struct job *j);
/* The whole life, from start to the end of the runner, and the checks that hold for every one. */
void job_run(struct job *j);
/* Of the n-th record of that kind: "" if there is none. */
const char *job_text(const struct job *j, const char *kind, int n, const char *key);
int64_t job_number(const struct job *j, const char *kind, int n, const char *key);   /* -1: none */
char *job_file(const struct job *j, const char *name); /* path in the job folder; malloc'ed */
void job_done(struct job *j); /* ends what is left, by its id */
/* The teardown of every test: what a test that failed did not get to. */
int job_clean(void **state);
#endif

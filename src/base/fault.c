/* fault.c - a named point that a test can make fail
 *
 * The orders stand in one place, set by ty_fault_arm() or, on the first visit of a process, from TY_FAULT.
 */
#include "base/fault.h"

#ifdef TY_FAULTS
#include "base/str.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    bool known;     /* someone has set the rest */
    char name[64];  /* "": every point counts */
    int at, visits; /* at 0: never */
    int error;
    bool onwards; /* not that visit alone, but every later one too */
    char visits_file[256];
} orders;

static const struct {
    const char *word;
    int error;
} errors[] = { { "EIO", EIO },
               { "ENOSPC", ENOSPC },
               { "ENOMEM", ENOMEM },
               { "EROFS", EROFS },
               { "ENOLCK", ENOLCK } };

static int error_of(const char *word)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (strcmp(errors[i].word, word) == 0)
            return errors[i].error;
    return EIO;
}

/* The file is opened anew for each: a process may close all that it has open, and open others. */
static void tell_visit(const char *path, const char *name)
{
    char line[80];
    int n = snprintf(line, sizeof line, "%s\n", name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd < 0)
        return;
    if (n > 0 && write(fd, line, (size_t)n) < 0)
        perror(path);
    close(fd);
}

/* "name:visit[+][:ERRNO]" */
static void read_environment(void)
{
    const char *text = getenv("TY_FAULT");
    char count[16] = "", word[16] = "", *plus;
    int64_t at;

    orders.known = true;
    orders.error = EIO;
    if (text && text[0] == '/') {
        snprintf(orders.visits_file, sizeof orders.visits_file, "%s", text);
        return;
    }
    if (!text || sscanf(text, "%63[^:]:%15[^:]:%15s", orders.name, count, word) < 2)
        return;
    plus = strchr(count, '+');
    if (plus) {
        orders.onwards = true;
        *plus = 0;
    }
    if (word[0])
        orders.error = error_of(word);
    if (ty_parse_i64(count, &at) == 0 && at > 0 && at < 1000000000)
        orders.at = (int)at;
}

bool ty_fault_hit(const char *name)
{
    bool hit = false;
    int error = EIO;

    pthread_mutex_lock(&lock);
    if (!orders.known)
        read_environment();
    if (orders.visits_file[0]) {
        tell_visit(orders.visits_file, name);
    } else if (!orders.name[0] || strcmp(orders.name, name) == 0) {
        orders.visits++;
        hit = orders.at > 0 &&
              (orders.visits == orders.at || (orders.onwards && orders.visits > orders.at));
        error = orders.error;
    }
    pthread_mutex_unlock(&lock);
    if (hit)
        errno = error;
    return hit;
}

void ty_fault_arm(const char *name, int visit, int error)
{
    pthread_mutex_lock(&lock);
    orders.known = true;
    snprintf(orders.name, sizeof orders.name, "%s", name ? name : "");
    orders.at = visit;
    orders.visits = 0;
    orders.onwards = false;
    orders.error = error;
    pthread_mutex_unlock(&lock);
}

int ty_fault_visits(void)
{
    int n;

    pthread_mutex_lock(&lock);
    n = orders.visits;
    pthread_mutex_unlock(&lock);
    return n;
}
#else
typedef int ty_fault_off; /* ISO C wants a declaration in every file */
#endif

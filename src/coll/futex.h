/* futex.h - waiting on a word of memory, and the pause between two looks at it */
#ifndef TY_COLL_FUTEX_H
#define TY_COLL_FUTEX_H
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Sleep while *word == value; timeout_us < 0: without end.  May return early, for any reason. */
static inline void ty_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t timeout_us)
{
    struct timespec t = { timeout_us / 1000000, timeout_us % 1000000 * 1000 };

    syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_us < 0 ? NULL : &t, NULL, 0);
}

static inline void ty_futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

static inline void ty_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}
#endif

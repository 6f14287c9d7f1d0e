/* delay.c - a switch that holds every frame for a while, for kernels that have no netem
 *
 *     delay MICROSECONDS LOSS NAMESPACE...
 *
 * Makes a tap device "lan0" in each network namespace, with the MAC 02:00:00:00:00:<its number>, and passes frames between
 * them: each leaves MICROSECONDS after it came, LOSS (0 to 1) of them never: chosen at random, in the same order each time.
 * Prints "ready"; ends, and the devices with it, when its standard input does, and prints how many frames came and how many
 * of them it lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS 64
#define FRAME 9100       /* MTU 9000 and its head */
#define FRAMES (1 << 14) /* held at once; beyond them frames are dropped */
#define BURST 32         /* frames read from a port in a row */

struct frame {
    int64_t due;
    int from;
    ssize_t len;
    unsigned char bytes[FRAME];
};

static struct frame *ring; /* of FRAMES; [first, last) are held */
static uint64_t first, last; /* and last is how many came and were not lost */
static uint64_t lost;
static int ports, port[PORTS];
static uint64_t random_state = 88172645463325252u;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static double uniform(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

/* A tap device belongs to the namespace in which it is made; this process moves there for good. */
static int open_port(const char *space, int number)
{
    char path[256];
    struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "lan0" };

    snprintf(path, sizeof path, "/run/netns/%s", space);
    int ns = open(path, O_RDONLY | O_CLOEXEC);

    if (ns < 0 || setns(ns, CLONE_NEWNET) < 0)
        return -1;
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0)
        return -1;
    r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(r.ifr_hwaddr.sa_data, (unsigned char[]){ 2, 0, 0, 0, 0, (unsigned char)number }, 6);
    return ioctl(fd, SIOCSIFHWADDR, &r) < 0 ? -1 : fd;
}

static void take(int from, int64_t delay_ns, double loss)
{
    for (int i = 0; i < BURST && last - first < FRAMES; i++) {
        struct frame *f = &ring[last % FRAMES];

        f->len = read(port[from], f->bytes, sizeof f->bytes);
        if (f->len < 14)
            return;
        if (loss > 0 && uniform() < loss) {
            lost++;
            continue;
        }
        f->from = from;
        f->due = now_ns() + delay_ns;
        last++;
    }
}

/* To the port that the last byte of the MAC names, or (broadcast) to all others. */
static void give(const struct frame *f)
{
    bool all = f->bytes[0] & 1;

    for (int p = 0; p < ports; p++)
        if (p != f->from && (all || p == f->bytes[5]) &&
            write(port[p], f->bytes, (size_t)f->len) < 0 && errno != EIO &&
            errno != EAGAIN) /* EIO: the device is down */
            fprintf(stderr, "delay: a frame was lost: %m\n");
}

static void run(int64_t delay_ns, double loss)
{
    struct pollfd p[PORTS + 1] = { { STDIN_FILENO, POLLIN, 0 } };

    for (int i = 0; i < ports; i++)
        p[i + 1] = (struct pollfd){ port[i], POLLIN, 0 };
    while (!p[0].revents) {
        int64_t wait = first < last ? ring[first % FRAMES].due - now_ns() : INT64_C(1000000000);
        struct timespec t = { .tv_sec = wait > 0 ? wait / 1000000000 : 0,
                              .tv_nsec = wait > 0 ? wait % 1000000000 : 0 };

        if (ppoll(p, (nfds_t)ports + 1, &t, NULL) < 0 && errno != EINTR)
            return;
        for (int i = 0; i < ports; i++)
            if (p[i + 1].revents)
                take(i, delay_ns, loss);
        for (int64_t now = now_ns(); first < last && ring[first % FRAMES].due <= now; first++)
            give(&ring[first % FRAMES]);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc - 3 > PORTS) {
        fprintf(stderr, "usage: delay MICROSECONDS LOSS NAMESPACE NAMESPACE...\n");
        return 2;
    }
    if (!(ring = malloc(sizeof *ring * FRAMES))) {
        fprintf(stderr, "delay: no memory\n");
        return 1;
    }
    for (int i = 3; i < argc; i++, ports++)
        if ((port[ports] = open_port(argv[i], ports)) < 0) {
            fprintf(stderr, "delay: cannot make a tap device in network namespace \"%s\": %m\n",
                    argv[i]);
            return 1;
        }
    printf("ready\n");
    fflush(stdout);
    run((int64_t)(strtod(argv[1], NULL) * 1000), strtod(argv[2], NULL));
    printf("%llu %llu\n", (unsigned long long)(last + lost), (unsigned long long)lost);
    return 0;
}

/* mpi_main.c - a rank of an MPI program, for test_pmix: mpi_main WHAT
 *
 * It is a plain MPI program: nothing here knows who starts it.
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size;

static int bad(const char *what, int got, int wanted)
{
    fprintf(stderr, "rank %d of %d: %s is %d, and not %d\n", rank, size, what, got, wanted);
    return 1;
}

/* The sum of all ranks, and who shares memory with this one: argument 2 says how many do. */
static int sum(int shared)
{
    int one = rank + 1, all = 0, near = 0, there = -1;
    MPI_Comm node;

    MPI_Allreduce(&one, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (all != size * (size + 1) / 2)
        return bad("the sum", all, size * (size + 1) / 2);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    MPI_Comm_size(node, &near);
    MPI_Comm_rank(node, &there);
    if (near != shared)
        return bad("the number of ranks with the same memory", near, shared);
    if (there != rank % shared)
        return bad("the local rank", there, rank % shared);
    MPI_Comm_free(&node);
    return 0;
}

/* Memory that ranks of a node share, and more bytes than fit into one message of the network. */
static int much(void)
{
    enum { N = 1 << 20 };
    int *v = malloc(N * sizeof *v);

    for (int i = 0; i < N; i++)
        v[i] = i + rank;
    MPI_Allreduce(MPI_IN_PLACE, v, N, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < N; i++)
        if (v[i] != i * size + size * (size - 1) / 2)
            return bad("an element", v[i], i * size + size * (size - 1) / 2);
    free(v);
    return 0;
}

static int spawn(void)
{
    MPI_Comm other;
    int r;

    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    r = MPI_Comm_spawn("/bin/true", MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &other,
                       MPI_ERRCODES_IGNORE);
    return r == MPI_SUCCESS ? bad("what spawning gave", r, MPI_ERR_SPAWN) : 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int r = 0;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (strcmp(what, "sum") == 0)
        r = sum(argc > 2 ? (int)strtol(argv[2], NULL, 10) : size);
    else if (strcmp(what, "much") == 0)
        r = much();
    else if (strcmp(what, "spawn") == 0)
        r = rank == 0 ? spawn() : 0;
    else if (strcmp(what, "abort") == 0 && rank == 1)
        MPI_Abort(MPI_COMM_WORLD, argc > 2 ? (int)strtol(argv[2], NULL, 10) : 7);
    else if (strcmp(what, "die") == 0 && rank == 1)
        raise(SIGKILL);
    else
        for (;;) /* until somebody ends it */
            pause();
    MPI_Finalize();
    return r;
}

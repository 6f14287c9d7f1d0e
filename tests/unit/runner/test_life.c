/* test_life.c - prepare, run, collect: one step at a time, and what happens when one of them breaks
 *
 * This program is its own rank wrapper and helper.  What the steps look like from outside, with a loop and a
 * daemon, is in test_runner.c.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/fs.h"
#include "inside.h"
#include "runner/lead.h"
#include "runner/oom.h"
#include "runner/rank.h"
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct inside in;

static void make(const char *command, const char *script)
{
    job_make(&in.j, command, script);
}

static void assert_phase_file(enum ty_phase p)
{
    assert_int_equal(ty_phase_read(in.j.dir), p);
}

static void assert_in_log(enum ty_log_id log, const char *part)
{
    CLEANUP_FREE char *text = inside_log(&in, log);

    if (!strstr(text, part))
        fail_msg("the log should say '%s', but says: %s", part, text);
}

static int stay(int out, void *ctx)
{
    (void)out, (void)ctx;
    for (;;)
        pause();
    return 0;
}

/* A helper that stays, in the place of the one that prepares or collects. */
static void put_helper(enum ty_phase p)
{
    struct ty_error err;

    in.r.phase = p;
    assert_int_equal(ty_child_start(&in.r.child, stay, NULL, &err), 0);
}

static void test_each_step(void **state)
{
    (void)state;
    make("echo kept > outputs/f; sleep 0.1; exit 0", NULL);
    inside_open(&in);
    ty_life_begin(&in.r);
    assert_int_equal(in.r.phase, TY_PHASE_preparing);
    assert_phase_file(TY_PHASE_preparing);
    inside_until(&in, TY_PHASE_running);
    assert_phase_file(TY_PHASE_running);
    inside_until(&in, TY_PHASE_collecting);
    assert_int_equal(inside_count(&in, "exited"), 1);
    assert_int_equal(in.r.limit_us, TY_NEVER);
    inside_until(&in, TY_PHASE_collected);
    assert_phase_file(TY_PHASE_collected);
    assert_int_equal(in.r.collected_seq, 4); /* started, exited, artifact, collected */
    assert_string_equal(inside_text(&in, "artifact", 0, "path"), "outputs/f");
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "script");
    assert_string_equal(inside_text(&in, "exited", 0, "message"), ""); /* it went well */
    assert_in_log(TY_LOG_CONTROL, "preparing run first_1700000000_0badcafe\n");
    assert_in_log(TY_LOG_CONTROL, "the command is running as process ");
    assert_in_log(TY_LOG_CONTROL, "the command exited with code 0\n");
    inside_done(&in);
}

static void not_started(const char *reason, const char *message)
{
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_count(&in, "started"), 0);
    assert_int_equal(inside_count(&in, "exited"), 1);
    assert_int_equal(inside_count(&in, "collected"), 1);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), reason);
    assert_string_equal(inside_text(&in, "exited", 0, "message"), message);
    inside_done(&in);
}

static void begin(void)
{
    inside_open(&in);
    ty_life_begin(&in.r);
}

static void test_what_cannot_start(void **state)
{
    char folder[] = "/tmp";

    (void)state;
    make(NULL, "true");
    json_object_set_new(job_spec(&in.j), "interpreter", json_string("/no/such/python"));
    begin();
    not_started("prepare",
                "cannot run the interpreter '/no/such/python': No such file or directory; "
                "name one that exists on this machine");
    make(NULL, "true");
    json_object_set_new(job_spec(&in.j), "script", json_string("other.sh"));
    json_object_set_new(job_spec(&in.j), "source_directory", json_string("/my/source"));
    begin();
    not_started("prepare",
                "entry_script 'other.sh' is not a file in source_directory '/my/source'");
    make("true", NULL);
    json_object_set_new(job_spec(&in.j), "command", json_pack("[s]", folder));
    begin();
    not_started("prepare", "cannot start '/tmp': Permission denied");
}

/* The folder takes no file: the run is not started, because it could be started twice. */
static void test_a_phase_that_cannot_be_written(void **state)
{
    CLEANUP_FREE char *way = NULL, *message = NULL;

    (void)state;
    make("true", NULL);
    inside_open(&in);
    way = job_file(&in.j, ".phase");
    assert_int_equal(mkdir(way, 0700), 0);
    message = ty_strf("cannot write to the job folder '%s': Is a directory", in.j.dir);
    ty_life_begin(&in.r);
    not_started("prepare", message);
}

static void test_helper_killed(void **state)
{
    (void)state;
    make("true", NULL);
    inside_open(&in);
    put_helper(TY_PHASE_preparing);
    kill(in.r.child.pid, SIGKILL);
    not_started("prepare", "the process that prepared the run was killed");

    make("true", NULL); /* once: the collection is begun again */
    inside_open(&in);
    put_helper(TY_PHASE_collecting);
    kill(in.r.child.pid, SIGKILL);
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_count(&in, "warning"), 0);
    assert_int_equal(inside_count(&in, "collected"), 1);
    inside_done(&in);

    make("true", NULL); /* the third time */
    inside_open(&in);
    in.r.collections = 2;
    put_helper(TY_PHASE_collecting);
    kill(in.r.child.pid, SIGKILL);
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(
        inside_text(&in, "warning", 0, "text"),
        "the files of the run are not complete: the process that collects them was killed");
    assert_int_equal(inside_count(&in, "collected"), 1);
    inside_done(&in);
}

/* While it is being prepared, there is nobody to give time to. */
static void test_canceled_while_preparing(void **state)
{
    (void)state;
    make("true", NULL);
    inside_open(&in);
    put_helper(TY_PHASE_preparing);
    ty_life_cancel(&in.r, TY_ENDING_CANCEL);
    assert_int_equal(in.r.kill_us, TY_NEVER);
    not_started("cancel", "the run was canceled before it started");
}

/* Until `started` was heard: then the time limit is set. */
static void await_started(void)
{
    for (int64_t end = ty_mono_us() + 20000000; in.r.limit_us == TY_NEVER; usleep(1000)) {
        ty_follow_ranks(&in.r);
        assert_true(ty_mono_us() < end);
    }
}

static void run_to_output(const char *command)
{
    make(command, NULL);
    json_object_set_new(job_spec(&in.j), "max_run_duration_seconds", json_integer(3600));
    begin();
    inside_until(&in, TY_PHASE_running);
    for (int64_t end = ty_mono_us() + 20000000;;) {
        CLEANUP_FREE char *log = inside_log(&in, TY_LOG_DRIVER);

        if (strstr(log, "ready\n"))
            break;
        assert_true(ty_mono_us() < end);
        usleep(1000);
    }
    await_started();
    assert_int_equal(inside_count(&in, "started"), 1);
}

static void test_canceled_while_running(void **state)
{
    (void)state;
    run_to_output("trap 'exit 9' TERM; echo ready; while :; do sleep 0.02; done");
    ty_life_cancel(&in.r, TY_ENDING_CANCEL);
    assert_true(ty_life_due(&in.r) == in.r.kill_us && in.r.kill_us < TY_NEVER);
    ty_life_cancel(&in.r, TY_ENDING_TIME_LIMIT); /* the first reason stays */
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "cancel");
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the run was canceled; the command exited with code 9");
    assert_true(ty_starts_with(inside_text(&in, "exited", 0, "log_tail"), "ready\n"));
    assert_in_log(TY_LOG_CONTROL, "canceled: SIGTERM to all processes, SIGKILL in 1 seconds\n");
    assert_int_equal(ty_life_due(&in.r), TY_NEVER);
    inside_done(&in);
}

static bool is_stopped(int pid)
{
    CLEANUP_FREE char *path = ty_strf("/proc/%d/stat", pid), *text = NULL;

    return ty_read_file(path, 4096, &text, NULL) == 0 && strstr(text, ") T ");
}

/* One that is stopped is woken, so that it can end by itself. */
static void test_canceled_while_stopped(void **state)
{
    int64_t end = ty_mono_us() + 20000000;

    (void)state;
    run_to_output("trap 'exit 9' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done");
    while (!is_stopped(inside_number(&in, "started", 0, "pid"))) {
        assert_true(ty_mono_us() < end);
        usleep(1000);
    }
    ty_life_cancel(&in.r, TY_ENDING_CANCEL);
    in.r.kill_us = TY_NEVER; /* however slow this machine is */
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_number(&in, "exited", 0, "exit_code"), 9);
    inside_done(&in);
}

/* Whoever does not hear SIGTERM ends with SIGKILL, when the time is over; a stopped one too. */
static void test_deaf(void **state)
{
    (void)state;
    run_to_output("trap '' TERM; echo ready; kill -STOP $$; while :; do sleep 0.02; done");
    in.r.limit_us = in.r.now_us;
    ty_life_timers(&in.r);
    assert_int_equal(in.r.ending, TY_ENDING_TIME_LIMIT);
    assert_int_equal(in.r.limit_us, TY_NEVER);
    in.r.kill_us = in.r.now_us; /* the time to end by itself is over */
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "time_limit");
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the run reached its time limit of 3600 s (max_run_duration_seconds); "
                        "the command was killed by signal 9 (Killed)");
    assert_in_log(TY_LOG_CONTROL, "ending what is left with SIGKILL\n");
    assert_int_equal(job_processes(&in.j), 0);
    inside_done(&in);
}

static void test_wrapper_killed(void **state)
{
    (void)state;
    run_to_output("echo ready; (setsid sleep 1000 &); exec sleep 1000");
    kill(in.r.ranks.at[0].wrapper.pid, SIGKILL);
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "lost");
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the process that watched the command was killed by signal 9 (Killed); the "
                        "command was ended with it");
    assert_int_equal(job_processes(&in.j), 0);
    inside_done(&in);
}

/* --- several processes --- */

/* Two nodes with so many ranks each. */
static void make_several(const char *command, int each)
{
    make(command, NULL);
    json_object_set_new(in.j.json, "nodes",
                        json_pack("[{s:s, s:i}, {s:s, s:i}]", "name", "h0", "ranks", each, "name",
                                  "h1", "ranks", each));
}

static char *log_of(int rank)
{
    CLEANUP_FREE char *path = ty_strf("%s/azureml-logs/70_driver_log_%d.txt", in.r.job->log, rank);
    char *text = NULL;

    assert_int_equal(ty_read_file(path, 1 << 20, &text, NULL), 0);
    return text;
}

static void test_several_end_well(void **state)
{
    (void)state;
    make_several("echo rank $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE on $NODE_RANK, "
                 "$TRAINYARD_COLL_RENDEZVOUS $TRAINYARD_COLL_SECRET",
                 2);
    begin();
    inside_until(&in, TY_PHASE_running);
    assert_int_equal(in.r.meeting.rendezvous, 4711);
    assert_true(in.r.meeting.port > 0);
    for (int i = 0; i < 4; i++) {
        CLEANUP_FREE char *log = NULL, *want = NULL;

        if (i == 0)
            inside_until(&in, TY_PHASE_collected);
        log = log_of(i);
        want = ty_strf("rank %d of 4, %d of 2 on %d, 127.0.0.1:4711 %s\n", i, i % 2, i / 2,
                       in.r.meeting.secret);
        assert_string_equal(log, want);
    }
    assert_int_equal(strlen(in.r.meeting.secret), 64);
    assert_int_equal(inside_count(&in, "started"), 1);
    assert_int_equal(inside_number(&in, "started", 0, "ranks"), 4);
    assert_int_equal(inside_number(&in, "exited", 0, "exit_code"), 0);
    assert_int_equal(inside_number(&in, "exited", 0, "rank"), -1);
    assert_in_log(TY_LOG_CONTROL, "all 4 processes are running\n");
    assert_in_log(TY_LOG_CONTROL, "all 4 processes ended well\n");
    assert_int_equal(job_processes(&in.j), 0);
    inside_done(&in);
}

static void ended_by(int rank, const char *node, const char *message)
{
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "message"), message);
    assert_int_equal(inside_number(&in, "exited", 0, "rank"), rank);
    assert_string_equal(inside_text(&in, "exited", 0, "node"), node);
    assert_int_equal(inside_count(&in, "started"), 1);
    assert_int_equal(inside_count(&in, "exited"), 1);
    assert_int_equal(job_processes(&in.j), 0);
}

/* The others hear SIGTERM, and those that do not listen SIGKILL; the log that is quoted is the culprit's. */
static void test_one_fails(void **state)
{
    (void)state;
    make_several("if test $RANK = 2; then echo I fail; exit 3; fi; trap '' TERM; echo I stay; "
                 "while :; do sleep 0.02; done",
                 2);
    begin();
    ended_by(2, "h1", "rank 2 (node h1) exited with code 3");
    assert_int_equal(inside_number(&in, "exited", 0, "exit_code"), 3);
    assert_string_equal(inside_text(&in, "exited", 0, "log_tail"), "I fail\n");
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "script");
    inside_done(&in);
}

/* Rank 0 only falls because 1 has gone, and says so; its end comes first all the same. */
static void test_victims_are_not_named(void **state)
{
    (void)state;
    make_several("if test $RANK = 0; then touch $TRAINYARD_SPOOL_DIR/victim.0; exit 1; fi; "
                 "while test ! -e $TRAINYARD_SPOOL_DIR/victim.0; do sleep 0.01; done; sleep 0.02; "
                 "echo the cause; exit 5",
                 1);
    begin();
    ended_by(1, "h1", "rank 1 (node h1) exited with code 5");
    assert_string_equal(inside_text(&in, "exited", 0, "log_tail"), "the cause\n");
    inside_done(&in);
}

/* Of a rank that was killed the error says that memory had run out meanwhile, here as on another node. */
static void test_want_of_memory(void **state)
{
    int64_t kills = ty_oom_kills();

    (void)state;
    run_to_output("echo ready; kill -STOP $$; kill -9 $$");
    assert_true(kills > -1);
    in.r.oom_kills = kills - 2; /* as if two had been killed since */
    kill(in.r.ranks.at[0].pid, SIGCONT);
    inside_until(&in, TY_PHASE_collected);
    assert_non_null(strstr(inside_text(&in, "exited", 0, "message"),
                           "the command was killed by signal 9 (Killed); the kernel has killed "));
    assert_non_null(strstr(inside_text(&in, "exited", 0, "message"),
                           " processes on its machine for want of memory since the job began"));
    in.r.job->leads = false;
    ty_node_rank_ended(&in.r, 0);
    assert_true(inside_number(&in, "rank_ended", 0, "oom_kills") >= 2);
    inside_done(&in);
}

/* All have ended, and a node is not heard: nobody is left to blame but the one that ended badly. */
static void test_a_victim_of_nobody(void **state)
{
    static const char key[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    struct ty_error err;
    int good = 0, bad = 1 << 8; /* as wait statuses */

    (void)state;
    make_several("true", 1);
    json_object_set_new(in.j.json, "local_nodes", json_integer(1));
    json_object_set_new(in.j.json, "link", json_pack("{s:s}", "key", key));
    inside_open(&in);
    assert_int_equal(ty_leading_open(&in.r, &err), 0);
    assert_true(ty_leading_trouble(&in.r)); /* it has not come */
    in.r.phase = TY_PHASE_running;
    ty_ranks_ended(&in.r.ranks, 0, &good, false, in.r.now_us);
    ty_ranks_ended(&in.r.ranks, 1, &bad, true, in.r.now_us);
    ty_follow_judge(&in.r);
    assert_int_equal(inside_number(&in, "exited", 0, "exit_code"), 1);
    assert_int_equal(inside_number(&in, "exited", 0, "rank"), 1);
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "rank 1 (node h1) exited with code 1");
    in.r.lead = ty_lead_free(in.r.lead);
    inside_done(&in);
}

static void test_one_is_killed(void **state)
{
    (void)state;
    make_several("test $RANK = 1 && kill -9 $$; exec sleep 1000", 1);
    begin();
    ended_by(1, "h1", "rank 1 (node h1) was killed by signal 9 (Killed)");
    assert_int_equal(inside_number(&in, "exited", 0, "exit_signal"), 9);
    inside_done(&in);
}

static void await_all_started(void)
{
    for (int64_t end = ty_mono_us() + 20000000; !in.r.started_told; usleep(1000)) {
        ty_follow_ranks(&in.r);
        assert_true(ty_mono_us() < end);
    }
}

static void test_one_of_the_wrappers_is_killed(void **state)
{
    (void)state;
    make_several("(setsid sleep 1000 &); exec sleep 1000", 1);
    begin();
    inside_until(&in, TY_PHASE_running);
    await_all_started();
    kill(in.r.ranks.at[1].wrapper.pid, SIGKILL);
    ended_by(1, "h1",
             "the process that watched rank 1 (node h1) was killed by signal 9 (Killed); all "
             "processes were ended with it");
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "lost");
    inside_done(&in);
}

static void test_several_canceled(void **state)
{
    (void)state;
    make_several("exec sleep 1000", 2);
    begin();
    inside_until(&in, TY_PHASE_running);
    await_all_started();
    ty_life_cancel(&in.r, TY_ENDING_CANCEL);
    ended_by(-1, "", "the run was canceled; its 4 processes have ended");
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "cancel");
    inside_done(&in);
}

static void test_one_cannot_start(void **state)
{
    (void)state;
    make_several("true", 1);
    json_object_set_new(job_spec(&in.j), "command", json_pack("[s]", "/no/such/$RANK"));
    json_object_set_new(job_spec(&in.j), "expand", json_true());
    begin();
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "prepare");
    assert_true(ty_starts_with(inside_text(&in, "exited", 0, "message"), "rank "));
    assert_non_null(strstr(inside_text(&in, "exited", 0, "message"), "cannot start '/no/such/"));
    assert_non_null(
        strstr(inside_text(&in, "exited", 0, "message"), "on each machine that the run uses"));
    assert_int_equal(inside_count(&in, "started"), 0);
    inside_done(&in);
}

/* What the helper says in place of a port; nothing: it ends without a word. */
static void put_meeting(const char *says)
{
    CLEANUP_FREE char *path = job_file(&in.j, "meeting");

    assert_int_equal(ty_write_file(path, says, strlen(says), 0600), 0);
}

/* The rendezvous fails, or its process goes away: the job cannot start, and says why. */
static void test_no_rendezvous(void **state)
{
    (void)state;
    make_several("true", 1);
    put_meeting("{\"kind\":\"failed\",\"text\":\"no port is free\"}\n");
    begin();
    not_started("prepare", "the rendezvous of the processes: no port is free");
    make_several("true", 1);
    put_meeting("");
    begin();
    not_started("prepare", "the rendezvous of the processes ended before it was ready");
}

static void test_canceled_while_a_helper_is_waited_for(void **state)
{
    (void)state;
    make_several("true", 1);
    inside_open(&in);
    in.r.phase = TY_PHASE_preparing;
    in.r.prepared = true;
    ty_life_ready(&in.r);
    assert_int_equal(in.r.phase, TY_PHASE_preparing);
    ty_life_cancel(&in.r, TY_ENDING_CANCEL);
    not_started("cancel", "the run was canceled before it started");
}

/* More nodes than a record has room for names: it is made all the same. */
static void test_many_nodes(void **state)
{
    enum { NODES = 40, NAME = 2000 };
    json_t *nodes = json_array();
    char name[NAME + 1];

    (void)state;
    make("true", NULL);
    memset(name, 'n', NAME);
    name[NAME] = '\0';
    for (int i = 0; i < NODES; i++)
        json_array_append_new(nodes, json_pack("{s:s, s:i}", "name", name, "ranks", 1));
    json_object_set_new(in.j.json, "nodes", nodes);
    begin();
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_count(&in, "started"), 1);
    assert_int_equal(inside_number(&in, "started", 0, "ranks"), NODES);
    inside_done(&in);
}

static void test_cpus(void **state)
{
    CLEANUP_FREE char *text = NULL;
    cpu_set_t before;
    int cpu = -1;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (int i = 0; i < CPU_SETSIZE && cpu < 0; i++)
        cpu = CPU_ISSET(i, &before) ? i : -1;
    make("grep Cpus_allowed_list /proc/self/status", NULL);
    json_object_set_new(in.j.json, "nodes",
                        json_pack("[{s:s, s:i, s:[i]}]", "name", "h0", "ranks", 1, "cpus", cpu));
    begin();
    inside_until(&in, TY_PHASE_collected);
    text = inside_log(&in, TY_LOG_DRIVER);
    assert_int_equal(strtol(text + strlen("Cpus_allowed_list:\t"), NULL, 10), cpu);
    assert_null(strpbrk(text + strlen("Cpus_allowed_list:\t"), ",-"));
    inside_done(&in);
}

/* The part of the helper that opens the rendezvous. */
static int play_rendezvous(char **argv)
{
    CLEANUP_FREE char *path = ty_path_join(getenv("TRAINYARD_JOB"), "meeting"), *text = NULL;
    const char *says = "{\"kind\":\"port\",\"port\":4711}\n";
    int out = (int)strtol(argv[2], NULL, 10);
    struct pollfd p = { .fd = out };

    signal(SIGTERM, SIG_IGN);
    if (ty_read_file(path, 1024, &text, NULL) == 0)
        says = text;
    if (!*says || write(out, says, strlen(says)) < 0)
        return 1;
    poll(&p, 1, -1);
    return 0;
}

static void test_time_limit_is_set(void **state)
{
    int64_t left;

    (void)state;
    make("echo ready; exec sleep 1000", NULL);
    json_object_set_new(job_spec(&in.j), "max_run_duration_seconds", json_integer(1000));
    begin();
    inside_until(&in, TY_PHASE_running);
    assert_int_equal(ty_life_due(&in.r), TY_NEVER); /* its time begins with the program's */
    await_started();
    left = ty_life_due(&in.r) - ty_mono_us();
    assert_true(left > 900 * INT64_C(1000000) && left <= 1000 * INT64_C(1000000));
    inside_done(&in);
}

/* The warnings of the submission, and what is no text among them, stand before the first line. */
static void test_head_of_the_log(void **state)
{
    CLEANUP_FREE char *log = NULL;

    (void)state;
    make("echo first", NULL);
    json_object_set_new(in.j.json, "warnings",
                        json_pack("[s, i, s]", "no GPU here", 7, "100% sure"));
    begin();
    inside_until(&in, TY_PHASE_collected);
    log = inside_log(&in, TY_LOG_DRIVER);
    assert_string_equal(log, "Warning: no GPU here\nWarning: \nWarning: 100% sure\nfirst\n");
    inside_done(&in);
}

/* --- after another runner --- */

static void test_salvage_of_a_lost_job(void **state)
{
    (void)state;
    make("true", NULL);
    inside_open(&in);
    in.r.phase = TY_PHASE_running;
    ty_life_salvage(&in.r, false);
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "reason"), "lost");
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the runner was killed; the command was ended with it");
    inside_done(&in);

    make(NULL, "true");
    inside_open(&in);
    in.r.rebooted = true;
    ty_life_salvage(&in.r, false);
    inside_until(&in, TY_PHASE_collected);
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the machine was restarted while the run was active");
    inside_done(&in);

    make_several("true", 2);
    inside_open(&in);
    ty_life_salvage(&in.r, false);
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the runner was killed; all 4 processes were ended with it");
    inside_done(&in);

    make_several("true", 2);
    json_object_set_new(in.j.json, "local_nodes", json_integer(1));
    inside_open(&in);
    ty_life_salvage(&in.r, false);
    assert_string_equal(inside_text(&in, "exited", 0, "message"),
                        "the runner on node 'h0' was killed; all 4 processes were ended with it");
    inside_done(&in);
}

/* What is known is not told twice. */
static void test_salvage_of_an_ended_job(void **state)
{
    (void)state;
    make("true", NULL);
    inside_open(&in);
    ty_life_salvage(&in.r, true);
    assert_int_equal(in.r.phase, TY_PHASE_collecting);
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_count(&in, "exited"), 0);
    assert_int_equal(inside_count(&in, "collected"), 1);
    inside_done(&in);

    make("true", NULL);
    inside_open(&in);
    in.r.collected_seq = 5;
    ty_life_salvage(&in.r, true);
    assert_int_equal(in.r.phase, TY_PHASE_collected);
    assert_phase_file(TY_PHASE_collected);
    assert_int_equal(in.r.child.pid, 0);
    assert_int_equal(inside_count(&in, "collected"), 0);
    inside_done(&in);
}

/* Processes that only have the job's mark left are ended first. */
static void test_salvage_ends_what_is_marked(void **state)
{
    CLEANUP_FREE char *mark = NULL;
    pid_t pid;
    int status;

    (void)state;
    make("true", NULL);
    inside_open(&in);
    mark = ty_strf("TRAINYARD_JOB=%s", in.j.dir);
    pid = fork();
    if (pid == 0) {
        char *argv[] = { (char *)"sleep", (char *)"1000", NULL }, *env[] = { mark, NULL };

        execve("/bin/sleep", argv, env);
        _exit(127);
    }
    for (int64_t end = ty_mono_us() + 20000000; job_processes(&in.j) == 0; usleep(1000))
        assert_true(ty_mono_us() < end);
    ty_life_salvage(&in.r, true);
    for (int64_t end = ty_mono_us() + 20000000; waitpid(pid, &status, WNOHANG) != pid; usleep(1000))
        assert_true(ty_mono_us() < end);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    inside_done(&in);
}

#ifdef TY_FAULTS
/* A disk that takes no record: nothing is lost, and the same call works later. */
static void test_records_fail_and_come_back(void **state)
{
    (void)state;
    make("true", NULL);
    inside_open(&in);
    in.r.phase = TY_PHASE_running;
    ty_life_salvage(&in.r, false);
    ty_fault_arm("runner.record", 1, ENOSPC);
    assert_int_equal(ty_records_write(in.r.records), -ENOSPC);
    assert_true(ty_records_waiting(in.r.records));
    assert_int_equal(ty_records_write(in.r.records), 0);
    ty_fault_arm("none", 0, 0);
    assert_false(ty_records_waiting(in.r.records));
    inside_until(&in, TY_PHASE_collected);
    assert_int_equal(inside_count(&in, "exited"), 1);
    inside_done(&in);
}
#endif

int main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_teardown(f, job_clean)
    const struct CMUnitTest tests[] = {
        T(test_each_step),
        T(test_what_cannot_start),
        T(test_a_phase_that_cannot_be_written),
        T(test_helper_killed),
        T(test_canceled_while_preparing),
        T(test_canceled_while_running),
        T(test_canceled_while_stopped),
        T(test_deaf),
        T(test_wrapper_killed),
        T(test_several_end_well),
        T(test_one_fails),
        T(test_victims_are_not_named),
        T(test_a_victim_of_nobody),
        T(test_want_of_memory),
        T(test_one_is_killed),
        T(test_one_of_the_wrappers_is_killed),
        T(test_several_canceled),
        T(test_one_cannot_start),
        T(test_no_rendezvous),
        T(test_canceled_while_a_helper_is_waited_for),
        T(test_cpus),
        T(test_many_nodes),
        T(test_time_limit_is_set),
        T(test_head_of_the_log),
        T(test_salvage_of_a_lost_job),
        T(test_salvage_of_an_ended_job),
        T(test_salvage_ends_what_is_marked),
#ifdef TY_FAULTS
        T(test_records_fail_and_come_back),
#endif
    };

    if (argc > 1 && strcmp(argv[1], "rank") == 0)
        return ty_rank_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "rendezvous") == 0)
        return play_rendezvous(argv);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}

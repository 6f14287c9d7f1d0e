/* test_run_state.c - the life of a run, checked against what docs/spec/event-log.md says of it
 *
 * A situation is a state together with what the run remembers: Finalizing leads to three ends, and NotResponding
 * returns to two places.
 */
#include "core/run_state.h"
#include "tests.h"

/* One letter per state: what a matrix of them is made of. */
static const char letters[] = "nspvqrxcfDFK";
static const enum ty_run_state letter_states[] = {
    TY_RUN_NOT_STARTED, TY_RUN_STARTING,  TY_RUN_PROVISIONING,   TY_RUN_PREPARING,
    TY_RUN_QUEUED,      TY_RUN_RUNNING,   TY_RUN_NOT_RESPONDING, TY_RUN_CANCEL_REQUESTED,
    TY_RUN_FINALIZING,  TY_RUN_COMPLETED, TY_RUN_FAILED,         TY_RUN_CANCELED,
};

static char letter_of(enum ty_run_state s)
{
    for (size_t i = 0; i < sizeof letter_states / sizeof *letter_states; i++)
        if (letter_states[i] == s)
            return letters[i];
    return '?';
}

/* clang-format off */
static const enum ty_run_event columns[] = {
    TY_EV_SUBMITTED, TY_EV_NODES_WANTED, TY_EV_PREPARE, TY_EV_READY, TY_EV_STARTED, TY_EV_SILENT, TY_EV_HEARD,
    TY_EV_REQUEUED, TY_EV_CANCEL, TY_EV_EXITED_OK, TY_EV_EXITED_BAD, TY_EV_LOST, TY_EV_COLLECTED,
};

/* s Starting, p Provisioning, v Preparing, q Queued, r Running, x NotResponding, c CancelRequested, f Finalizing,
 * D Completed, F Failed, K Canceled; '.' cannot follow.  `outcome`: what is known in Finalizing after the event. */
static const struct situation {
    const char *way;     /* the events that lead there */
    char here, outcome;  /* state and outcome there; n: not known */
    const char *to;      /* a letter per column: where each event leads */
    const char *outcomes; /* a letter per column: the outcome then */
} situations[] = {
    /*                                                                SNPRSSHRCEELC   SNPRSSHRCEELC
     *                                                                uorettieaxxoo   uorettieaxxoo
     *                                                                bdeaaleqniisl   bdeaaleqniisl */
    { "",                                                   'n', 'n', "s............", "n............" },
    { "submitted",                                          's', 'n', ".pv.....K..F.", ".nn.....K..F." },
    { "submitted nodes_wanted",                             'p', 'n', "..v.....K..F.", "..n.....K..F." },
    { "submitted prepare",                                  'v', 'n', "...q....c.ff.", "...n....n.FF." },
    { "submitted prepare ready",                            'q', 'n', "....r..qc.ff.", "....n..nn.FF." },
    { "submitted prepare ready requeued",                   'q', 'n', "....r..qc.ff.", "....n..nn.FF." },
    { "submitted prepare ready started",                    'r', 'n', ".....x.qcfff.", ".....n.nnDFF." },
    { "submitted prepare ready started silent",             'x', 'n', "......rqc..f.", "......nnn..F." },
    { "submitted prepare cancel",                           'c', 'n', "....c...cfff.", "....n...nKKK." },
    { "submitted prepare ready cancel",                     'c', 'n', "....c...cfff.", "....n...nKKK." },
    { "submitted prepare ready started cancel",             'c', 'n', "....c...cfff.", "....n...nKKK." },
    { "submitted prepare ready started silent cancel",      'c', 'n', "....c...cfff.", "....n...nKKK." },
    { "submitted prepare ready started exited_ok",          'f', 'D', ".....x..f..DD", ".....D..D..DD" },
    { "submitted prepare ready started exited_bad",         'f', 'F', ".....x..f..FF", ".....F..F..FF" },
    { "submitted prepare ready started lost",               'f', 'F', ".....x..f..FF", ".....F..F..FF" },
    { "submitted prepare ready started silent lost",        'f', 'F', ".....x..f..FF", ".....F..F..FF" },
    { "submitted prepare exited_bad",                       'f', 'F', ".....x..f..FF", ".....F..F..FF" },
    { "submitted prepare ready lost",                       'f', 'F', ".....x..f..FF", ".....F..F..FF" },
    { "submitted prepare cancel exited_bad",                'f', 'K', ".....x..f..KK", ".....K..K..KK" },
    { "submitted prepare ready started cancel exited_ok",   'f', 'K', ".....x..f..KK", ".....K..K..KK" },
    { "submitted prepare ready started exited_ok silent",   'x', 'D', "......f.x..f.", "......D.D..D." },
    { "submitted prepare ready started exited_bad silent",  'x', 'F', "......f.x..f.", "......F.F..F." },
    { "submitted prepare ready started cancel lost silent", 'x', 'K', "......f.x..f.", "......K.K..K." },
    { "submitted prepare ready started exited_ok collected", 'D', 'D', ".............", "............." },
    { "submitted lost",                                     'F', 'F', ".............", "............." },
    { "submitted cancel",                                   'K', 'K', ".............", "............." },
};
/* clang-format on */

enum { COLUMNS = sizeof columns / sizeof *columns };

static const struct ty_event_note later = { .at_us = 5000, .exit_code = 3, .exit_signal = 0 };

static struct ty_run reach(const char *way)
{
    struct ty_run run = TY_RUN_INIT;
    struct ty_event_note note = { .at_us = 1000, .exit_code = 7 };
    char word[32];
    int used;

    for (; sscanf(way, "%31s%n", word, &used) == 1; way += used) {
        assert_int_equal(ty_run_apply(&run, ty_run_event_parse(word), &note), 0);
        note.at_us++;
    }
    return run;
}

static void assert_same(const struct ty_run *a, const struct ty_run *b)
{
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->outcome, b->outcome);
    assert_int_equal(a->heard, b->heard);
    assert_int_equal(a->attempt, b->attempt);
    assert_int_equal(a->exit_code, b->exit_code);
    assert_int_equal(a->exit_signal, b->exit_signal);
    assert_int_equal(a->created_us, b->created_us);
    assert_int_equal(a->started_us, b->started_us);
    assert_int_equal(a->ended_us, b->ended_us);
}

/* What must hold in every state that can be reached: the invariants in the head of run_state.c. */
static void assert_sound(const struct ty_run *run)
{
    bool silent = run->state == TY_RUN_NOT_RESPONDING, ended = ty_run_state_ended(run->state);

    assert_in_range(run->state, 0, TY_RUN_STATE_COUNT - 1);
    assert_true(run->outcome == TY_RUN_NOT_STARTED || ty_run_state_ended(run->outcome));
    assert_int_equal(run->outcome != TY_RUN_NOT_STARTED,
                     ended || run->state == TY_RUN_FINALIZING ||
                         (silent && run->heard == TY_RUN_FINALIZING));
    if (ended)
        assert_int_equal(run->outcome, run->state);
    assert_int_equal(run->heard != TY_RUN_NOT_STARTED, silent);
    if (silent)
        assert_true(run->heard == TY_RUN_RUNNING || run->heard == TY_RUN_FINALIZING);
    assert_int_equal(run->ended_us != 0, ended);
    assert_int_equal(run->attempt > 0, run->state != TY_RUN_NOT_STARTED);
    assert_int_equal(run->created_us != 0, run->state != TY_RUN_NOT_STARTED);
    if (run->state == TY_RUN_RUNNING || run->heard == TY_RUN_RUNNING)
        assert_true(run->started_us != 0);
}

static void test_every_pair(void **state)
{
    bool seen[TY_RUN_STATE_COUNT] = { false };

    (void)state;
    assert_int_equal(COLUMNS, TY_EV_COUNT);
    for (size_t i = 0; i < sizeof situations / sizeof *situations; i++) {
        const struct situation *s = &situations[i];
        struct ty_run before = reach(s->way);

        assert_int_equal(letter_of(before.state), s->here);
        assert_int_equal(letter_of(before.outcome), s->outcome);
        assert_sound(&before);
        seen[before.state] = true;
        assert_int_equal(strlen(s->to), COLUMNS);
        assert_int_equal(strlen(s->outcomes), COLUMNS);
        for (int c = 0; c < COLUMNS; c++) {
            struct ty_run run = before;
            int r = ty_run_apply(&run, columns[c], &later);
            char to = r == 0 ? letter_of(run.state) : '.';

            if (to != s->to[c])
                print_message("after '%s', %s\n", s->way, ty_run_event_word(columns[c]));
            assert_int_equal(to, s->to[c]);
            assert_sound(&run);
            if (r == 0) {
                assert_int_equal(letter_of(run.outcome), s->outcomes[c]);
            } else {
                assert_int_equal(r, -EPROTO);
                assert_same(&run, &before);
            }
        }
    }
    for (int s = 0; s < TY_RUN_STATE_COUNT; s++)
        assert_true(seen[s]);
}

static void test_facts(void **state)
{
    struct ty_event_note code = { .at_us = 2000, .exit_code = 3 },
                         sig = { .at_us = 2000, .exit_code = -1, .exit_signal = 9 };
    struct ty_run run;

    (void)state;
    run = reach("submitted prepare ready started");
    assert_int_equal(run.created_us, 1000);
    assert_int_equal(run.started_us, 1003);
    assert_int_equal(run.ended_us, 0);
    assert_int_equal(run.attempt, 1);
    assert_int_equal(run.exit_code, -1);
    assert_int_equal(run.exit_signal, 0);

    assert_int_equal(ty_run_apply(&run, TY_EV_EXITED_BAD, &code), 0);
    assert_int_equal(run.exit_code, 3);
    assert_int_equal(run.ended_us, 0);
    assert_int_equal(ty_run_apply(&run, TY_EV_COLLECTED, &later), 0);
    assert_int_equal(run.exit_code, 3);
    assert_int_equal(run.ended_us, 5000);

    run = reach("submitted prepare ready started cancel");
    assert_int_equal(ty_run_apply(&run, TY_EV_EXITED_BAD, &sig), 0);
    assert_int_equal(run.exit_code, -1);
    assert_int_equal(run.exit_signal, 9);

    run = reach("submitted prepare ready started");
    assert_int_equal(ty_run_apply(&run, TY_EV_LOST, &code), 0);
    assert_int_equal(run.exit_code, -1);

    run = reach("submitted prepare ready cancel started");
    assert_int_equal(run.started_us, 1004);

    run = reach("submitted lost");
    assert_int_equal(run.ended_us, 1001);
    run = reach("submitted nodes_wanted cancel");
    assert_int_equal(run.ended_us, 1002);

    run = reach("submitted prepare ready started silent requeued");
    assert_int_equal(run.attempt, 2);
    assert_int_equal(run.created_us, 1000);
    assert_int_equal(run.started_us, 0);
}

static void test_out_of_range(void **state)
{
    struct ty_run run = TY_RUN_INIT;

    (void)state;
    assert_int_equal(ty_run_apply(&run, TY_EV_COUNT, &later), -EPROTO);
    assert_int_equal(ty_run_apply(&run, TY_EV_INVALID, &later), -EPROTO);
    run.state = TY_RUN_STATE_INVALID;
    assert_int_equal(ty_run_apply(&run, TY_EV_SUBMITTED, &later), -EPROTO);
    assert_int_equal(run.state, TY_RUN_STATE_INVALID);
}

/* Whatever is thrown at a run, it stays sound; the events that it took give the same run again. */
static void test_random_and_replay(void **state)
{
    enum { LIVES = 3000, THROWN = 60 };
    bool seen[TY_RUN_STATE_COUNT] = { false };
    uint64_t seed = 20;

    (void)state;
    for (int life = 0; life < LIVES; life++) {
        struct ty_run run = TY_RUN_INIT, again = TY_RUN_INIT;
        struct ty_event_note notes[THROWN];
        enum ty_run_event taken[THROWN];
        int n = 0;

        for (int i = 0; i < THROWN; i++) {
            enum ty_run_event ev = (enum ty_run_event)(tests_random(&seed) % TY_EV_COUNT);
            struct ty_event_note note = { .at_us = 1 + i,
                                          .exit_code = (int)(tests_random(&seed) % 256) };
            struct ty_run before = run;

            if (ty_run_apply(&run, ev, &note) < 0) {
                assert_same(&run, &before);
                continue;
            }
            assert_false(ty_run_state_ended(before.state));
            assert_sound(&run);
            seen[run.state] = true;
            taken[n] = ev;
            notes[n++] = note;
        }
        for (int i = 0; i < n; i++)
            assert_int_equal(ty_run_apply(&again, taken[i], &notes[i]), 0);
        assert_same(&again, &run);
    }
    for (int s = TY_RUN_NOT_STARTED + 1; s < TY_RUN_STATE_COUNT; s++)
        assert_true(seen[s]);
}

/* Users' scripts compare against these. */
static void test_words(void **state)
{
    static const char *const azure[] = { "NotStarted",    "Starting",        "Provisioning",
                                         "Preparing",     "Queued",          "Running",
                                         "NotResponding", "CancelRequested", "Finalizing",
                                         "Completed",     "Failed",          "Canceled" };

    (void)state;
    assert_int_equal(sizeof azure / sizeof *azure, TY_RUN_STATE_COUNT);
    for (size_t i = 0; i < sizeof azure / sizeof *azure; i++) {
        enum ty_run_state s = ty_run_state_parse(azure[i]);

        assert_int_not_equal(s, TY_RUN_STATE_INVALID);
        assert_string_equal(ty_run_state_word(s), azure[i]);
    }
    assert_int_equal(ty_run_state_parse("running"), TY_RUN_STATE_INVALID);
    assert_int_equal(ty_run_state_parse(""), TY_RUN_STATE_INVALID);
    for (int e = 0; e < TY_EV_COUNT; e++)
        assert_int_equal(ty_run_event_parse(ty_run_event_word((enum ty_run_event)e)), e);
    assert_int_equal(ty_run_event_parse("exited_ok"), TY_EV_EXITED_OK);
    assert_int_equal(ty_run_event_parse("EXITED_OK"), TY_EV_INVALID);
    assert_true(ty_run_state_ended(TY_RUN_FAILED));
    assert_false(ty_run_state_ended(TY_RUN_FINALIZING));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair),   cmocka_unit_test(test_facts),
        cmocka_unit_test(test_out_of_range), cmocka_unit_test(test_random_and_replay),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

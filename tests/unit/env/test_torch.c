/* test_torch.c - which PyTorch a node uses: a table of nodes and wishes */
#include "env/torch.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

static void versions_that_fit(void **state)
{
    static const struct {
        const char *version, *asked;
        bool fits;
    } cases[] = {
        { "1.13.0a0+gitunknown", "1.13", true }, /* Debian's */
        { "1.13.0a0+gitunknown", ">=1.13", true },
        { "2.1.2+cu118", "2.1", true },
        { "2.1.2+cu118", "2.1.2", true },
        { "2.1.2+cu118", "2.1.1", false },
        { "2.1.2", "2", true },
        { "2.10.0", "2.1", false },
        { "2.1.2", ">=2,<2.2", true },
        { "2.2.0", ">=2,<2.2", false },
        { "2.1.2", "==2.1", false },
        { "2.1.0", "==2.1", true },
        { "2.1.2", "==2.1.*", true },
        { "2.1.2", "=2.1", true },
        { "2.1.2", "!=2.1.2", false },
        { "2.4.0", "~=2.1", true },
        { "3.0.0", "~=2.1", false },
        { "2.1.9", "~=2.1.2", true },
        { "2.2.0", "~=2.1.2", false },
        { "2.0.0", ">2", false },
        { "1.4.0", "", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (ty_torch_fits(cases[i].version, cases[i].asked) != cases[i].fits)
            fail_msg("%s and %s", cases[i].version, cases[i].asked);
    assert_true(ty_torch_is_older("1.4.0", "1.6"));
    assert_false(ty_torch_is_older("1.6.1", "1.6"));
    assert_false(ty_torch_is_older("2.0.0", "<2"));
}

/* What is asked for, what there is, and what comes of it; NULL where it is "" or not given. */
struct choice_case {
    const char *torch, *vision, *index;
    bool use_gpu;
    const char *python, *have, *have_vision, *cuda, *driver; /* driver: there is a GPU */
    enum ty_torch_what what;
    bool warn;
    const char *requirement, *vision_requirement, *build, *reason; /* reason: words in it */
};
#define USE TY_TORCH_USE
#define INSTALL TY_TORCH_INSTALL
#define REFUSE TY_TORCH_REFUSE
#define DEBIAN "3.11.2", "1.13.0a0+gitunknown"
/* clang-format off */
static const struct choice_case cases[] = {
    /* what is there and satisfies */
    { "", NULL, NULL, false, DEBIAN, NULL, "", NULL, USE, false, NULL, NULL, NULL, "torch 1.13.0a0+gitunknown of the interpreter is used" },
    { "1.13", "", NULL, false, DEBIAN, "0.14.1a0", "", NULL, USE, false, NULL, NULL, NULL, "is used" },
    { "", NULL, NULL, true, DEBIAN, NULL, "", NULL, USE, false, NULL, NULL, NULL, "is used" }, /* no GPU here */
    { "", NULL, NULL, true, "3.11.2", "2.4.1+cu121", NULL, "12.1", "12.4", USE, false, NULL, NULL, NULL, "is used" },
    { "", NULL, NULL, true, "3.11.2", "2.4.1", NULL, NULL, "12.4", USE, false, NULL, NULL, NULL, "is used" }, /* nobody knows */
    /* its torchvision is the one of that torch, built alike */
    { "", "", NULL, false, "3.11.2", "2.4.1+cu121", NULL, "12.1", NULL, INSTALL, false, NULL, "torchvision==0.19.*", "cu121", "is used" },
    { "", "", NULL, false, "3.11.2", "2.4.1", NULL, "12.1", NULL, INSTALL, false, NULL, "torchvision==0.19.*", NULL, "is used" },
    { "", "0.7", NULL, false, "3.11.2", "2.4.1", "0.19.1", "12.1", NULL, USE, true, NULL, NULL, NULL, "torchvision 0.7 was asked for" },
    /* there is none of that torch for this Python: a newer torch has one */
    { "", "", NULL, false, DEBIAN, NULL, "", NULL, INSTALL, true, "torch!=1.13.0a0+gitunknown", "torchvision", "cpu", "python3-torchvision" },
    { "1.4", "0.5", NULL, false, DEBIAN, NULL, "", NULL, INSTALL, true, "torch!=1.13.0a0+gitunknown", "torchvision", "cpu", "torchvision 0.14, the one for torch 1.13.0a0" },
    { "1.13", "", NULL, false, DEBIAN, NULL, "", NULL, INSTALL, false, NULL, "torchvision==0.14.*", NULL, "is used" },
    { "", "", NULL, false, "3.10.2", "1.13.1+cpu", NULL, "", NULL, INSTALL, false, NULL, "torchvision==0.14.*", "cpu", "is used" },
    /* nothing there, no GPU */
    { "", NULL, NULL, false, "3.11.7", NULL, NULL, NULL, NULL, INSTALL, false, "torch", NULL, "cpu", "built for the CPU" },
    { "2.1", NULL, NULL, false, "3.11.7", NULL, NULL, NULL, NULL, INSTALL, false, "torch==2.1.*", NULL, "cpu", "torch 2.1 is installed" },
    { "2.1.1", "", NULL, false, "3.11.7", NULL, NULL, NULL, NULL, INSTALL, false, "torch==2.1.1,<2.2", "torchvision<0.17", "cpu", NULL },
    { ">=2, <2.3", NULL, "pip", false, "3.11.7", NULL, NULL, NULL, NULL, INSTALL, false, "torch>=2,<2.3", NULL, NULL, "torch >=2, <2.3 is installed" },
    { "2.0", NULL, NULL, false, DEBIAN, NULL, "", NULL, INSTALL, false, "torch==2.0.*", NULL, "cpu", NULL },
    /* a GPU, and what its driver runs */
    { "", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "12.4", INSTALL, false, "torch<2.7", NULL, "cu124", "CUDA 12.4 is installed" },
    { "", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "12.2", INSTALL, false, "torch<2.6", NULL, "cu121", NULL },
    { "", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "13.1", INSTALL, false, "torch<2.13", NULL, "cu130", NULL },
    { "", NULL, NULL, true, DEBIAN, NULL, "", "12.8", INSTALL, false, "torch<2.13,!=1.13.0a0+gitunknown", NULL, "cu126", NULL },
    { "2.7", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "12.2", INSTALL, false, "torch==2.7.*,<2.8", NULL, "cu118", NULL },
    { "2.9", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "12.2", INSTALL, false, "torch==2.9.*,<2.10", NULL, "cu126", NULL },
    { "2.1", "", NULL, true, "3.11.2", NULL, NULL, NULL, "12.4", INSTALL, false, "torch==2.1.*,<2.2", "torchvision<0.17", "cu121", NULL },
    { "1.6", NULL, NULL, true, "3.8.10", NULL, NULL, NULL, "10.1", INSTALL, false, "torch==1.6.*,<1.7", NULL, "cu101", NULL },
    { "", NULL, "pip", true, "3.11.2", NULL, NULL, NULL, "12.4", INSTALL, false, "torch<2.7", NULL, NULL, "CUDA 12.4" },
    { "", NULL, "pip", true, "3.11.2", NULL, NULL, NULL, "12.1", INSTALL, false, "torch<2.5", NULL, NULL, "CUDA 12.1" },
    { "", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "", INSTALL, false, "torch<2.8", NULL, "cu118", NULL },
    { "2", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "12.4", INSTALL, false, "torch==2.*,<2.7", NULL, "cu124", NULL },
    { "2.14", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "13.0", INSTALL, false, "torch==2.14.*,<2.15", NULL, NULL, "CUDA 13.0" },
    { "", "", NULL, true, "3.11.2", "2.4.1+cpu", "0.19.1+cpu", "", "12.4", INSTALL, false, "torch<2.7,!=2.4.1+cpu", "torchvision<0.22,!=0.19.1+cpu", "cu124", NULL },
    /* a driver that is too old */
    { "2.9", NULL, NULL, true, "3.11.2", NULL, NULL, NULL, "11.4", REFUSE, false, NULL, NULL, NULL, "install a newer NVIDIA driver" },
    { "", NULL, NULL, true, DEBIAN, NULL, "", "10.0", USE, true, NULL, NULL, NULL, "built without CUDA" },
    /* versions that were never built for this Python */
    { "1.6", NULL, NULL, false, DEBIAN, NULL, "", NULL, USE, true, NULL, NULL, NULL,
      "torch 1.6 was asked for, and there is none for Python 3.11 (the first is 1.13): torch 1.13.0a0+gitunknown" },
    { "1.6", NULL, NULL, false, "3.11.7", NULL, NULL, NULL, NULL, REFUSE, false, NULL, NULL, NULL, "is not to be had for Python 3.11" },
    { "1.6", NULL, NULL, false, "3.8.1", NULL, NULL, NULL, NULL, INSTALL, false, "torch==1.6.*", NULL, "cpu", NULL },
    { "2.14", NULL, NULL, false, "3.8.1", "1.6.0", NULL, "", NULL, REFUSE, false, NULL, NULL, NULL, "torch 1.4 to 2.4" },
    { "<1.10", NULL, NULL, false, "3.12.1", "2.4.1", NULL, "", NULL, USE, true, NULL, NULL, NULL, "the first is 2.2" },
    /* newer than the table */
    { "2.40", NULL, NULL, false, "3.16.0", NULL, NULL, NULL, NULL, INSTALL, false, "torch==2.40.*", NULL, "cpu", NULL },
    { "2.40", NULL, NULL, true, "3.14.0", NULL, NULL, NULL, "13.0", INSTALL, false, "torch==2.40.*", NULL, NULL, "pip's own index" },
    { "", NULL, NULL, false, "3.16.0", NULL, NULL, NULL, NULL, INSTALL, false, "torch", NULL, "cpu", NULL },
};
/* clang-format on */

static void same(size_t i, const char *what, const char *have, const char *wanted)
{
    if (strcmp(have, wanted ? wanted : "") != 0)
        fail_msg("case %zu: %s is '%s', not '%s'", i, what, have, wanted ? wanted : "");
}

static void choices(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct choice_case *k = &cases[i];
        struct ty_torch_ask ask = { k->torch, k->vision, k->use_gpu, k->index };
        struct ty_torch_node node = { k->python, k->have,           k->have_vision,
                                      k->cuda,   k->driver != NULL, k->driver ? k->driver : "" };
        struct ty_torch_choice c;

        ty_torch_choose(&ask, &node, &c);
        if (c.what != k->what || c.warn != k->warn)
            fail_msg("case %zu: does %d, warns %d: %s", i, c.what, c.warn, c.reason);
        same(i, "the requirement", c.torch, k->requirement);
        same(i, "the requirement of torchvision", c.torchvision, k->vision_requirement);
        same(i, "the build", c.build, k->build);
        assert_true(*c.reason);
        if (k->reason && !strstr(c.reason, k->reason))
            fail_msg("case %zu: '%s' is not in: %s", i, k->reason, c.reason);
        if (*c.build && !strstr(c.index, c.build))
            fail_msg("case %zu: index %s", i, c.index);
        assert_true(!*c.build == !*c.index);
    }
}

static void where_builds_are(void **state)
{
    static const char *const bases[][2] = {
        { NULL, "https://download.pytorch.org/whl/cpu" },
        { "http://mirror/whl/", "http://mirror/whl/cpu" },
        { "http://mirror/torch-{build}/simple", "http://mirror/torch-cpu/simple" },
        { "pip", "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        struct ty_torch_ask ask = { .torch = "", .index = bases[i][0] };
        struct ty_torch_node node = { .python = "3.11.2", .driver_cuda = "" };
        struct ty_torch_choice c;

        ty_torch_choose(&ask, &node, &c);
        assert_string_equal(c.index, bases[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_that_fit),
        cmocka_unit_test(choices),
        cmocka_unit_test(where_builds_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

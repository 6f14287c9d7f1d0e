/* torch.h - which PyTorch a node uses: what is there, a build from an index, or none
 *
 * Pure: what the node has is told, and nothing is looked at or fetched.  Which versions there are for which Python and CUDA is
 * a table of this file's .c; what is newer than the table is taken to be like its newest row.
 */
#ifndef TY_TORCH_H
#define TY_TORCH_H
#include <stdbool.h>
#include <stddef.h>

#define TY_TORCH_INDEX "https://download.pytorch.org/whl" /* a folder with an index for each build: cpu, cu118, ... */
#define TY_TORCH_INDEX_PIP "pip" /* in place of an address: whatever pip's own index has */

struct ty_torch_ask {
    const char *torch, *torchvision; /* "1.13", ">=2,<3"; "" any; NULL: not asked for */
    bool use_gpu;
    const char *index; /* address, TY_TORCH_INDEX_PIP, or NULL: PyTorch's own.  "{build}" in it, or else "/<build>" behind it,
                        * becomes the name of a build: "cpu", "cu124" */
};
struct ty_torch_node {
    const char *python;             /* version of the interpreter: "3.11.2" */
    const char *torch, *torchvision; /* what it has; NULL: not */
    const char *cuda;               /* for which its torch was built: "12.4", "" for none; NULL: unknown */
    bool gpu;                       /* the machine has one */
    const char *driver_cuda;        /* the newest CUDA that its driver serves: "12.4"; "" unknown */
};

enum ty_torch_what {
    TY_TORCH_USE,     /* what the interpreter has */
    TY_TORCH_INSTALL, /* pip installs the requirements */
    TY_TORCH_REFUSE,  /* `reason` says what to do */
};
struct ty_torch_choice {
    enum ty_torch_what what;
    bool warn;             /* the reason is one that the user should see: something else is used than was asked for */
    char torch[128];       /* requirement for pip: "torch>=2,<2.7"; "" none has to be installed */
    char torchvision[128]; /* the same */
    char build[16];        /* "cpu", "cu124"; "" pip's own */
    char index[512];       /* address of the index of that build; "" pip's own alone */
    char reason[512];      /* one sentence, for the record */
};

void ty_torch_choose(const struct ty_torch_ask *ask, const struct ty_torch_node *node, struct ty_torch_choice *ret);
/* Does a version satisfy what is asked for?  "1.13" and "1.13.1" are satisfied by versions that begin so, ">=2,<3" as pip has it;
 * builds ("+cu118") and the alpha that a distribution calls its release do not count. */
bool ty_torch_fits(const char *version, const char *asked);
/* Is it older than all that would satisfy?  Then it is no substitute. */
bool ty_torch_is_older(const char *version, const char *asked);
#endif

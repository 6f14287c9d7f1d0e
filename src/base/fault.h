/* fault.h - a named point that a test can make fail
 *
 * FAULT(name, bad, expr) is `expr`, except in test builds (-Dfaults=true) when this is the visit to
 * break: then errno is EIO (or what TY_FAULT names) and the value is `bad`.
 *
 *   in a test process    ty_fault_arm("blob.open", 3, EIO): the third visit of that point fails;
 *                        name NULL counts visits of every point
 *   in a child process   TY_FAULT=store.commit:3        the third visit fails
 *                        TY_FAULT=store.commit:3+       the third and every later one
 *                        TY_FAULT=store.commit:3:ENOSPC with that errno (EIO, ENOSPC, ENOMEM, EROFS, ENOLCK)
 *                        TY_FAULT=/a/file            none fails; each visit adds a line to the file, the point's name
 */
#ifndef TY_FAULT_H
#define TY_FAULT_H
#include <errno.h>
#include <stdbool.h>
#ifdef TY_FAULTS
bool ty_fault_hit(const char *name); /* true: fail now, errno is set */
void ty_fault_arm(const char *name, int visit, int error);
int ty_fault_visits(void); /* since the last ty_fault_arm */
#define FAULT(name, bad, expr) (ty_fault_hit(name) ? (__typeof__(expr))(bad) : (expr))
#else
#define FAULT(name, bad, expr) (expr)
#endif
#endif

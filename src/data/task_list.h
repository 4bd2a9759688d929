// The classes of each of several tasks, from a table: for counting what adapting to each would take.
#ifndef DATA_TASK_LIST_H
#define DATA_TASK_LIST_H

#include "base/context.h"
#include "base/memory.h"

enum { TASK_NAME_SIZE = 64, MOST_TASKS = 1000 };

typedef struct Task {
    char name[TASK_NAME_SIZE];
    int n_classes;
} Task;

typedef struct TaskList {
    Task *tasks; // [n], in the order in which they first come
    int n;
} TaskList;

// Tab-separated lines; the first names the columns, `task` and `wnid` (the class) among them. A format error names the
// line: too few fields, an empty or overlong one, a class that comes twice,
// too many tasks. *out is closed by task_list_close.
KinditStatus task_list_parse(TaskList *out, KinditContext *ctx, const char *name, const char *text, size_t size);
KinditStatus task_list_read(TaskList *out, KinditContext *ctx, const char *path);
void task_list_close(TaskList *list);

#endif

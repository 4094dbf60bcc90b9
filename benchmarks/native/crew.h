/* Which processes answer: when each was first and last heard of, and how many answered within a tenth of a second. */
#ifndef BENCHMARKS_CREW_H
#define BENCHMARKS_CREW_H

#include "common.h"

enum { MEMBERS = 4096 }; /* more are not told apart: a run that starts so many workers is too long */

struct member {
    long pid;
    uint64_t first, last, answers, window; /* window: the last one in which it answered */
};

struct crew {
    struct member members[MEMBERS];
    unsigned count;
    uint64_t window;          /* the tenth of a second that it is now, since boot; 0: not counting yet */
    unsigned here;            /* workers that have answered in it */
    unsigned fewest, most, windows; /* over the whole windows so far */
};

static const uint64_t WINDOW_NS = 100000000;

/* The window is over: count it, and those after it in which nobody answered. */
static inline void turn_window(struct crew *c, uint64_t now) {
    uint64_t next = now / WINDOW_NS;
    if (!c->window || next <= c->window) return; /* not counting yet, or not in the first whole one */
    if (c->here > c->most) c->most = c->here;
    if (next > c->window + 1) c->here = 0;
    if (!c->windows++ || c->here < c->fewest) c->fewest = c->here;
    c->window = next;
    c->here = 0;
}

static inline struct member *member_of(struct crew *c, long pid, uint64_t now) {
    for (unsigned i = c->count; i-- > 0;) /* the youngest first */
        if (c->members[i].pid == pid) return &c->members[i];
    if (c->count == MEMBERS) return NULL;
    struct member *found = &c->members[c->count++];
    *found = (struct member){.pid = pid, .first = now};
    printf("worker %ld %.6f\n", pid, (double)now / 1e9); /* whoever started us may want to know at once */
    fflush(stdout);
    return found;
}

static inline void heard_of(struct crew *c, long pid, uint64_t now) {
    struct member *from = member_of(c, pid, now);
    turn_window(c, now);
    if (!from) return;
    if (c->window && now / WINDOW_NS == c->window && from->window != c->window) {
        from->window = c->window;
        c->here++;
    }
    from->last = now;
    from->answers++;
}

#endif

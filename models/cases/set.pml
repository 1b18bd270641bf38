/* A set that stays enrolled on one queue or, with QUEUES=2, on two; and two who put, of whom one may die; or the second
 * of them CLOSES a queue. With THREAD_DIES the second puts when the first is dead.
 * DOUBTED: which members are in doubt from the start, a bit for each. */
#define NP 3
#define NS 3
#define NU 3
#ifndef QUEUES
#define QUEUES 1
#endif
#if QUEUES == 1
#define NQ 1
#define NE 2
#else
#define NQ 2
#define NE 3
#endif
#define SETS
#ifndef ROUNDS
#define ROUNDS 2
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif
#ifndef PUTS
#define PUTS 0, NONE, 1
#endif
#ifndef ALSO
#define ALSO 0, NONE, 1
#endif
#ifdef CLOSES
#define MAY_CLOSE
#define OTHER closer(3, CLOSES)
#else
#define OTHER putter(3, ALSO)
#endif
#define SHARED 0
#ifndef MORTALS
#define MORTALS 4
#endif
#ifndef SWEEPERS
#define SWEEPERS 2
#endif
#ifdef THREAD_DIES
#define puts(p, many) (p != 3 || dying[2])
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run collector(1, ROUNDS, TIMEOUTS); run putter(2, PUTS); run OTHER; \
    run bell(1); run bell(2); run bell(3)
#include "../protocol.pml"

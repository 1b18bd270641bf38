/* A set on three queues, DOUBTED as in `set`, and three who put, each on a queue of his own, when it is enrolled on all.
 * Whom it asks is the matter: a condition that is met does not end a wait (DRAINS), and no wake claims it (SHARED). */
#define NP 4
#define NS 4
#define NU 4
#define NQ 3
#define NE 4
#define SETS
#define DRAINS
#define puts(p, many) on(3, 2)
#ifndef SHARED
#define SHARED 1
#endif
#ifndef ROUNDS
#define ROUNDS 9
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 0
#endif
#ifndef FIRST
#define FIRST 1
#endif
#ifndef SECOND
#define SECOND 2
#endif
#ifndef THIRD
#define THIRD 1
#endif
#ifndef MORTALS
#define MORTALS 8
#endif
#ifndef SWEEPERS
#define SWEEPERS 2
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); begin_at(4, 3); \
    run collector(1, ROUNDS, TIMEOUTS); \
    run putter(2, 0, NONE, FIRST); run putter(3, 1, NONE, SECOND); run putter(4, 2, NONE, THIRD); \
    run bell(1); run bell(2); run bell(3); run bell(4)
#include "../protocol.pml"

/* A bell rings for one who lives: two wait without a condition, one wakes. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#define PLAIN
#define THREADS_APART
#define FALSE_BELL 1
#define MORTALS 8
#define GATE (ready[1] && ready[2])
#define CLEANERS (!dying[2])
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run plain(1, 0, 0); run plain(2, 0, 0); run waker(3, 0); \
    run bell(1, 0); run bell(2, 1); run bell(3, 0)
#include "../protocol.pml"

/* Two wait without a condition, one wakes one of them: whoever is chosen may die before it runs, and the waker; with
 * SWEEPERS=12 the waker also cleans up, and may die at that. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#define PLAIN
#define gate(p) (ready[1] && ready[2])
#ifndef MORTALS
#define MORTALS 10
#endif
#ifndef SWEEPERS
#define SWEEPERS 4
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run plain(1, 0, 0); run plain(2, 0, 0); run waker(3, 0); \
    run bell(1); run bell(2); run bell(3)
#include "../protocol.pml"

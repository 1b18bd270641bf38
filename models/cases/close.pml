/* One waits exclusively, one does not; the third closes the queue. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#ifndef MORTALS
#define MORTALS 12
#endif
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run taker(1, 0, NONE, 0, 0); run taker(2, 0, NONE, 1, 0); run closer(3, 0); \
    run bell(1, 1); run bell(2, 0); run bell(3, 0)
#include "../protocol.pml"

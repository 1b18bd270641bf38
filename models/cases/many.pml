/* One waits on two queues, another on the second (but for ALONE); one puts an item on each. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 2
#define NE 3
#ifndef ITEMS
#define ITEMS 2
#endif
#ifdef ALONE
#define SECOND idler(2)
#else
#define SECOND taker(2, 1, NONE, 0, 0)
#endif
#ifndef MORTALS
#define MORTALS 10
#endif
#ifndef SWEEPERS
#define SWEEPERS 4
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run taker(1, 0, 1, 0, 0); run SECOND; run putter(3, 0, 1, ITEMS); \
    run bell(1); run bell(2); run bell(3)
#include "../protocol.pml"

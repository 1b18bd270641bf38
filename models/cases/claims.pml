/* Two take, one puts two items. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#ifndef ITEMS
#define ITEMS 2
#endif
#ifndef MORTALS
#define MORTALS 10
#endif
#ifndef SWEEPERS
#define SWEEPERS 4
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run taker(1, 0, NONE, 0, 0); run taker(2, 0, NONE, 0, 0); run putter(3, 0, NONE, ITEMS); \
    run bell(1); run bell(2); run bell(3)
#include "../protocol.pml"

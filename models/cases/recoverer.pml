/* One waits and may die; one of the two who clean up after it may die too. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#define MORTALS 6
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run taker(1, 0, NONE, 0, 0); run idler(2); run idler(3); \
    run bell(1, 0); run bell(2, 1); run bell(3, 1)
#include "../protocol.pml"

/* A set that stays enrolled, and two who put; one of those may die. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 3
#define SETS
#ifndef MORTALS
#define MORTALS 4
#endif
#ifndef SWEEPERS
#define SWEEPERS 2
#endif
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run collector(1, 0, 2); run putter(2, 0, NONE, 1); run putter(3, 0, NONE, 1); \
    run bell(1); run bell(2); run bell(3)
#include "../protocol.pml"

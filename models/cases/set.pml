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
#define CLEANERS (!dying[1])
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run collector(1, 0, 2); run putter(2, 0, 1); run putter(3, 0, 1); \
    run bell(1, 1); run bell(2, 0); run bell(3, 0)
#include "../protocol.pml"

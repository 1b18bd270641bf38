/* One waits, one puts and may die; a newcomer takes the slot, and the record, of whoever is dead. */
#define NP 3
#define NS 2
#define NU 2
#define NQ 1
#define NE 2
#define JOINS 3
#ifndef NEWCOMER
#define NEWCOMER idler(3)
#endif
#ifndef MORTALS
#define MORTALS 12
#endif
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); \
    run taker(1, 0, NONE, 0, 0); run putter(2, 0, 1); run NEWCOMER; \
    run bell(1, 1); run bell(2, 0); run bell(3, 1)
#include "../protocol.pml"

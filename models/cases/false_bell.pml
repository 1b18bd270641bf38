/* A bell rings for one who lives and waits without a condition; its waker may die. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#define THREADS_APART
#define FALSE_BELL 1
#define MORTALS 8
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run plain(1, 0, 0); run idler(2); run waker(3, 0); \
    run bell(1, 0); run bell(2, 1); run bell(3, 0)
#include "../protocol.pml"

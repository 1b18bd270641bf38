/* One takes, one puts. */
#define NP 2
#define NS 2
#define NU 2
#define NQ 1
#define NE 2
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); \
    run taker(1, 0, NONE, 0, 0); run putter(2, 0, 1); run bell(1, 1); run bell(2, 1)
#include "../protocol.pml"

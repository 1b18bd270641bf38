/* Three want one lock, and sleep on it until they are woken. */
#define NP 3
#define NS 3
#define NU 3
#define NQ 1
#define NE 2
#define SLEEP_ON_LOCKS
#define MORTALS 6
#define CLEANERS true
#define CAST begin_at(1, 0); begin_at(2, 1); begin_at(3, 2); \
    run locker(1, 0); run locker(2, 0); run locker(3, 0); \
    run bell(1, 0); run bell(2, 0); run bell(3, 1)
#include "../protocol.pml"

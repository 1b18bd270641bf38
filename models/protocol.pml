#ifndef KILLS
#define KILLS 0
#endif
#ifndef ENTRIES
#define ENTRIES NE
#endif
#ifndef GATE
#define GATE true
#endif
#include "world.pml"
#include "lock.pml"
#include "queue.pml"
#include "waiter.pml"
#include "waker.pml"
#include "cleaner.pml"
#include "verdict.pml"
init {
    atomic { CAST; run killer(); run verdict_at_the_end() }
}

/* The whole protocol, with death as a step: for spin. `tests/protocol_model.rs` runs it, `cases/` says with whom.
 *
 * A process is a main thread and a bell thread. Both may stop between any two of their steps, for ever; then, each in a
 * step of its own and in any order that the kernel may choose: the main thread's lock mark, the bell, the certificate.
 * A step is one access that others can notice. What follows it and only concerns the thread itself is in the same step,
 * and so is what a bell passes over in a sweep because its verdicts, made before, say that it is no matter. Under a lock
 * a step is more, for all but death: `lock.pml`.
 *
 *   world.pml     what is shared, and what the kernel knows       waiter.pml    taker, plain, collector
 *   lock.pml      the robust lock: take, take over, release       waker.pml     putter, waker, closer, locker, idler
 *   queue.pml     enrol, leave, wake, note, pass on, close        cleaner.pml   attach, watch, the death rule
 *   verdict.pml   who is killed, and what must hold in the end
 *
 * In every state: whoever is taken for gone does nothing any more (mutual exclusion among the living); no cleaner
 * unlinks, and nobody gives away, what a living process owns. Where nothing can move any more: everybody alive has
 * returned, or sleeps although nothing is there for it (no lost wake, no hang); and no lock, entry, record or slot bears
 * the name of a dead one, for somebody who cleans up is alive.
 *
 * With THREAD_DIES it is a main thread that dies, and its process lives on: no bell rings, and those who want the lock
 * that it held take it over. What is promised then is that a wake after the death arrives.
 *
 * Each macro T_… makes a twin that lacks a step; `tests/protocol_model.rs` lists those that are shown to fail.
 *
 * Not here: weak memory (a fence that is missing is a pair of steps in the other order), keys and classes, interrupts,
 * detaching, members that join or leave a set later, the reviving of a bell, a cleaner that does not wait for a lock
 * any longer, users' locks and the directory's. Bells hear of every death: who watches whom, life word by life word, is
 * not modelled. A sweep judges all slots at one moment, and only the bells of SWEEPERS sweep. A thread that waits for a
 * lock looks at its owner all the time, as all do between two slices of their sleep; with SLEEP_ON_LOCKS only a wake
 * ends the sleep, which is more than is promised.
 */

#ifndef KILLS
#define KILLS 0
#endif
/* Who may begin, and put: in cases where that depends. */
#ifndef gate
#define gate(p) true
#endif
#ifndef puts
#define puts(p, many) true
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

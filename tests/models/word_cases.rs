//! The configurations. Queues are called A and B; what is not said of a waiter is: exclusive, any key, untimed.

use crate::state::{ALL, BELL, Cond, Config, Helper, NONE, Twist, Waiter};

pub(crate) const A: u8 = 0;
pub(crate) const B: u8 = 1;
pub(crate) const ANY: u8 = 3;

pub(crate) fn waiter(queues: &[u8], cond: Cond) -> Waiter {
    Waiter {
        queues: queues.to_vec(),
        cond,
        exclusive: true,
        key: ANY,
        priority: false,
        timed: false,
        cancels: false,
        more_waits: 0,
    }
}

/// Takes an item of one of these queues.
pub(crate) fn take(queues: &[u8]) -> Waiter {
    waiter(queues, Cond::Take)
}

/// Waits without a condition.
pub(crate) fn plain(queue: u8) -> Waiter {
    waiter(&[queue], Cond::Absent)
}

/// Non-exclusive, looks at its queue's items without taking any.
pub(crate) fn watch(queue: u8) -> Waiter {
    Waiter { exclusive: false, ..waiter(&[queue], Cond::Flag) }
}

pub(crate) fn timed(w: Waiter) -> Waiter {
    Waiter { timed: true, ..w }
}

pub(crate) fn keyed(w: Waiter, key: u8) -> Waiter {
    Waiter { key, ..w }
}

pub(crate) fn shared(w: Waiter) -> Waiter {
    Waiter { exclusive: false, ..w }
}

/// One item and one wake for it.
pub(crate) fn put(q: u8) -> Helper {
    Helper::Wake { q, push: true, n: 1, key: ANY }
}

pub(crate) fn wake(q: u8, n: u8) -> Helper {
    Helper::Wake { q, push: false, n, key: ANY }
}

pub(crate) fn keyed_wake(q: u8, key: u8) -> Helper {
    Helper::Wake { q, push: false, n: 1, key }
}

pub(crate) fn case(name: &'static str, waiters: Vec<Waiter>, helpers: Vec<Helper>) -> Config {
    Config {
        name,
        waiters,
        helpers,
        bells: vec![],
        killable: 0,
        kills: 0,
        false_bell: NONE,
        late_write: false,
        gated: false,
        twist: Twist::No,
    }
}

impl Config {
    pub(crate) fn gated(self) -> Config {
        Config { gated: true, ..self }
    }
    /// One kill of any waiter or helper, at any step, and one bell thread that survives.
    pub(crate) fn one_kill(self) -> Config {
        Config { bells: vec![NONE], killable: (1 << BELL) - 1, kills: 1, ..self }
    }
    pub(crate) fn of(self, t: usize) -> Config {
        Config { killable: 1 << t, ..self }
    }
    pub(crate) fn with(self, twist: Twist) -> Config {
        Config { twist, ..self }
    }
}

pub(crate) fn claims() -> Vec<Config> {
    vec![
        two_takers(),
        case(
            "a taker with priority, 2 items",
            vec![take(&[A]), Waiter { priority: true, ..take(&[A]) }, take(&[A])],
            vec![put(A), put(A)],
        ),
        case(
            "takers, wake of 2",
            vec![take(&[A]); 2],
            vec![put(A), Helper::Wake { q: A, push: true, n: 2, key: ANY }],
        ),
        case(
            "takers and watchers, wake all",
            vec![watch(A), take(&[A]), take(&[A])],
            vec![put(A), Helper::Wake { q: A, push: true, n: ALL, key: ANY }],
        ),
        case(
            "2 watchers, a taker",
            vec![watch(A), take(&[A]), Waiter { cond: Cond::Flag, ..take(&[A]) }],
            vec![put(A), put(A)],
        ),
    ]
}

/// About a million states each.
pub(crate) fn large() -> Vec<Config> {
    vec![
        case("3 takers, 3 items", vec![take(&[A]); 3], vec![put(A); 3]),
        case(
            "W1{a,b} timed W2{b,a} W3{b}, 1a 1b",
            vec![timed(take(&[A, B])), take(&[B, A]), take(&[B])],
            vec![put(A), put(B)],
        ),
        case(
            "W1{a,b} W2{b} W3{a}, 1a 2b",
            vec![take(&[A, B]), take(&[B]), take(&[A])],
            vec![put(A), put(B), put(B)],
        ),
        case(
            "killed: W1{a,b} W2{b} W3{a}, 1a 1b",
            vec![take(&[A, B]), take(&[B]), take(&[A])],
            vec![put(A), put(B)],
        )
        .one_kill()
        .of(0),
        case(
            "3 takers (2 timed), 2 items",
            vec![timed(take(&[A])), timed(take(&[A])), take(&[A])],
            vec![put(A), put(A)],
        ),
        case(
            "W1{a,b} W2{b,a}, 2a 2b",
            vec![take(&[A, B]), take(&[B, A])],
            vec![put(A), put(A), put(B), put(B)],
        ),
        case("killed: 3 takers, 2 items", vec![take(&[A]); 3], vec![put(A); 2]).one_kill().of(0),
    ]
}

/// Several million states each: run by hand, in a release build.
pub(crate) fn huge() -> Vec<Config> {
    vec![
        case(
            "3 takers (2 timed), 3 items",
            vec![timed(take(&[A])), timed(take(&[A])), take(&[A])],
            vec![put(A); 3],
        ),
        case(
            "W1{a,b} timed W2{b,a} W3{b}, 1a 2b",
            vec![timed(take(&[A, B])), take(&[B, A]), take(&[B])],
            vec![put(A), put(B), put(B)],
        )
        .gated(),
        case("killed: 3 takers, 3 items", vec![take(&[A]); 3], vec![put(A); 3]).one_kill().of(0),
    ]
}

pub(crate) fn two_takers() -> Config {
    case("2 takers, 2 items", vec![take(&[A]), take(&[A])], vec![put(A), put(A)])
}

pub(crate) fn many() -> Vec<Config> {
    vec![
        sibling(),
        case("W1{a,b} W2{b,a}, 1a 1b", vec![take(&[A, B]), take(&[B, A])], vec![put(A), put(B)]),
        case(
            "W1{a,b} cancels, W2{b}, 1a 1b",
            vec![Waiter { cancels: true, ..take(&[A, B]) }, take(&[B])],
            vec![put(A), put(B)],
        ),
        mixed(),
        mixed_keys(),
        case(
            "plain W1{a,b} W2{a} W3{b}",
            vec![waiter(&[A, B], Cond::Absent), plain(A), plain(B)],
            vec![wake(A, 1), wake(B, 1)],
        )
        .gated(),
        case(
            "plain W1{a,b} timed, W2{b}",
            vec![timed(waiter(&[A, B], Cond::Absent)), plain(B)],
            vec![wake(A, 1), wake(B, 1)],
        )
        .gated(),
    ]
}

pub(crate) fn sibling() -> Config {
    case("W1{a,b} W2{b}, 1a 1b", vec![take(&[A, B]), take(&[B])], vec![put(A), put(B)])
}

/// A wake on b that W1 does not need belongs to W2, which has no condition to fall back on.
pub(crate) fn mixed() -> Config {
    case("W1{a,b}, plain W2{b}; 1a, 1 wake of b", vec![take(&[A, B]), plain(B)], vec![put(A), wake(B, 1)])
        .gated()
}

pub(crate) fn mixed_keys() -> Config {
    let waiters = vec![take(&[A, B]), keyed(plain(B), 1), keyed(plain(B), 2)];
    case("W1{a,b}, plain W2{b:1} W3{b:2}; 1a, wake b:2", waiters, vec![put(A), keyed_wake(B, 2)]).gated()
}

/// Two wakes with different keys, the second while the first claim is still held.
pub(crate) fn two_keys() -> Config {
    let waiters = vec![take(&[A, B]), keyed(plain(B), 2)];
    case(
        "W1{a,b}, plain W2{b:2}; 1a, wakes b:1 b:2",
        waiters,
        vec![put(A), keyed_wake(B, 1), keyed_wake(B, 2)],
    )
    .gated()
}

pub(crate) fn giving_up() -> Vec<Config> {
    vec![
        stubborn(),
        timed_taker(),
        case(
            "timed and interrupted taker, taker, 1 item",
            vec![timed(take(&[A])), take(&[A])],
            vec![put(A), Helper::Interrupt(0)],
        ),
        interrupted(),
        case("interrupted taker, 1 item", vec![take(&[A])], vec![put(A), Helper::Interrupt(0)]),
        case(
            "timed W1{a,b} interrupted, plain W2{b}",
            vec![timed(take(&[A, B])), plain(B)],
            vec![wake(B, 1), Helper::Interrupt(0)],
        )
        .gated(),
        case(
            "interrupted plain, plain, 1 wake",
            vec![plain(A), plain(A)],
            vec![wake(A, 1), Helper::Interrupt(0)],
        )
        .gated(),
    ]
}

pub(crate) fn timed_taker() -> Config {
    case("timed taker, taker, 1 item", vec![timed(take(&[A])), take(&[A])], vec![put(A)])
}

pub(crate) fn interrupted() -> Config {
    case("interrupted taker", vec![take(&[A])], vec![Helper::Interrupt(0)])
}

/// W1's condition stays false: when it gives up, the wake it was chosen for belongs to W2.
pub(crate) fn stubborn() -> Config {
    let never = timed(waiter(&[A], Cond::Never));
    case("timed W1 (never true), plain W2, 1 wake", vec![never, plain(A)], vec![wake(A, 1)]).gated()
}

pub(crate) fn plain_waits() -> Vec<Config> {
    vec![
        case("3 plain, wakes of 1 and 2", vec![plain(A); 3], vec![wake(A, 1), wake(A, 2)]).gated(),
        case(
            "3 plain, 1 wake twice, wake all",
            vec![plain(A); 3],
            vec![wake(A, 1), wake(A, 1), wake(A, ALL)],
        )
        .gated(),
        case(
            "2 plain timed, 1 plain, 2 wakes",
            vec![timed(plain(A)), timed(plain(A)), plain(A)],
            vec![wake(A, 1), wake(A, 1)],
        )
        .gated(),
        case(
            "plain of all kinds, 2 wakes",
            vec![shared(plain(A)), plain(A), plain(A)],
            vec![wake(A, 1), wake(A, 1)],
        )
        .gated(),
        case(
            "plain, arriving late, 2 wakes",
            vec![shared(timed(plain(A))), plain(A), plain(A)],
            vec![wake(A, 1), wake(A, 1)],
        ),
        case(
            "plain, two keys",
            vec![keyed(plain(A), 1), keyed(plain(A), 2), plain(A)],
            vec![keyed_wake(A, 1), keyed_wake(A, 2)],
        )
        .gated(),
        two_keys(),
    ]
}

pub(crate) fn closing() -> Vec<Config> {
    vec![
        closed(),
        case("taker and watcher, close and item", vec![take(&[A]), watch(A)], vec![put(A), Helper::Close(A)]),
        case(
            "plain of both kinds, close and wake",
            vec![plain(A), shared(plain(A))],
            vec![wake(A, 1), Helper::Close(A)],
        ),
        case("W1{a,b} W2{b}, close a, 1b", vec![take(&[A, B]), take(&[B])], vec![put(B), Helper::Close(A)]),
        case(
            "W1{a,b}, plain W2{b}, close a, wake b",
            vec![take(&[A, B]), plain(B)],
            vec![wake(B, 1), Helper::Close(A)],
        )
        .gated(),
    ]
}

pub(crate) fn closed() -> Config {
    case("2 takers, close", vec![take(&[A]), take(&[A])], vec![Helper::Close(A)])
}

pub(crate) fn sets() -> Vec<Config> {
    let set = |queues: &[u8], more_waits| Waiter { more_waits, ..take(queues) };
    vec![
        case("set{a} of 2 waits, taker, 2 items", vec![set(&[A], 1), take(&[A])], vec![put(A), put(A)]),
        case("set{a,b} of 2 waits, taker b, 1a 1b", vec![set(&[A, B], 1), take(&[B])], vec![put(A), put(B)]),
        case(
            "set{a,b} of 2 waits, plain b; 1a, wake b",
            vec![set(&[A, B], 1), plain(B)],
            vec![put(A), wake(B, 1)],
        )
        .gated(),
        case(
            "set{a} that cancels, plain, 1 wake",
            vec![Waiter { cancels: true, ..timed(set(&[A], 1)) }, plain(A)],
            vec![wake(A, 1)],
        )
        .gated(),
        case("set{a}, taker, item, close", vec![set(&[A], 1), take(&[A])], vec![put(A), Helper::Close(A)]),
    ]
}

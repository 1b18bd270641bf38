//! The configurations with kills and false bells.

use crate::cases::{
    A, ANY, B, case, keyed, keyed_wake, mixed, plain, put, shared, stubborn, take, timed, wake, watch,
};
use crate::state::{ALL, BELL, Config, HELPER, Helper, NONE, Waiter};

pub(crate) fn kills() -> Vec<Config> {
    vec![
        waker_killed(),
        case("killed: 2 takers, 2 items", vec![take(&[A]), take(&[A])], vec![put(A), put(A)]).one_kill(),
        case(
            "killed: watcher, taker, wake all",
            vec![watch(A), take(&[A])],
            vec![Helper::Wake { q: A, push: true, n: ALL, key: ANY }],
        )
        .one_kill(),
        case("killed: closer, 2 takers", vec![take(&[A]), take(&[A])], vec![Helper::Close(A)])
            .one_kill()
            .of(HELPER),
        case("killed: closer, plain of both kinds", vec![plain(A), shared(plain(A))], vec![Helper::Close(A)])
            .one_kill()
            .of(HELPER),
        case("killed: W1{a,b}; W2{b}, 1a 1b", vec![take(&[A, B]), take(&[B])], vec![put(A), put(B)])
            .one_kill()
            .of(0),
        case("killed: interrupter, taker", vec![take(&[A])], vec![Helper::Interrupt(0)]).one_kill(),
        plain_killed(),
        mixed_killed(),
        Config { name: "killed: anyone; 2 plain, 2 wakes", ..plain_pair() }.one_kill(),
        case(
            "killed: anyone; plain of both kinds, wake all",
            vec![plain(A), shared(plain(A))],
            vec![wake(A, ALL)],
        )
        .one_kill()
        .gated(),
        Config { name: "killed: anyone; W1{a,b}; plain W2{b}", ..mixed() }.one_kill(),
        late_unlink_killed(),
        case(
            "killed: set{a}, plain, 1 wake",
            vec![Waiter { more_waits: 1, ..take(&[A]) }, plain(A)],
            vec![wake(A, 1)],
        )
        .one_kill()
        .of(0)
        .gated(),
        case(
            "killed: keyed plain W1{any} W2{1} W3{2}",
            vec![plain(A), keyed(plain(A), 1), keyed(plain(A), 2)],
            vec![keyed_wake(A, 2)],
        )
        .one_kill()
        .of(0)
        .gated(),
        late_write(),
    ]
}

pub(crate) fn waker_killed() -> Config {
    case("killed: taker, 1 item", vec![take(&[A])], vec![put(A)]).one_kill().of(HELPER)
}

pub(crate) fn plain_killed() -> Config {
    case("killed: plain W1; plain W2 W3, 2 wakes", vec![plain(A); 3], vec![wake(A, 1), wake(A, 1)])
        .one_kill()
        .of(0)
        .gated()
}

pub(crate) fn mixed_killed() -> Config {
    Config { name: "killed: W1{a,b}; plain W2{b}, 1a, wake b", ..mixed() }.one_kill().of(0)
}

pub(crate) fn late_unlink_killed() -> Config {
    Config { name: "killed: timed W1 (never true), plain W2", ..stubborn() }.one_kill().of(0)
}

/// A thread of the dying waker is inside a system call that writes the condition after the bell.
pub(crate) fn late_write() -> Config {
    Config { name: "killed: waker that writes on; taker", late_write: true, ..waker_killed() }
}

pub(crate) fn recoverer_killed() -> Vec<Config> {
    let two = |c: Config| Config { bells: vec![NONE, NONE], killable: c.killable | 1 << BELL, kills: 2, ..c };
    vec![
        two(Config { name: "killed twice: waker, taker, 1 item", ..waker_killed() }),
        two(case("killed twice: plain W1; plain W2, 1 wake", vec![plain(A); 2], vec![wake(A, 1)])
            .one_kill()
            .of(0)
            .gated()),
        two(case("killed twice: waker, plain W1 W2", vec![plain(A); 2], vec![wake(A, 1)])
            .one_kill()
            .of(HELPER)
            .gated()),
        Config {
            bells: vec![1, NONE],
            kills: 2,
            killable: 3,
            ..case("killed twice: W1, then W2 which recovers it", vec![plain(A); 3], vec![wake(A, 1)]).gated()
        },
    ]
}

pub(crate) fn recoverer_of_plain() -> Config {
    recoverer_killed().swap_remove(1)
}

pub(crate) fn false_bells() -> Vec<Config> {
    let rung = |c: Config| Config { bells: vec![NONE], false_bell: 0, ..c };
    vec![
        rung(case("false bell: taker; taker, 2 items", vec![take(&[A]), take(&[A])], vec![put(A), put(A)])),
        rung(case(
            "false bell: W1{a,b}; W2{b}, 1a 1b",
            vec![take(&[A, B]), take(&[B])],
            vec![put(A), put(B)],
        )),
        false_bell_plain(),
        Config {
            name: "false bell, then killed: plain W1; plain W2",
            false_bell: 0,
            ..plain_pair().one_kill().of(0)
        },
        rung(
            case("false bell: plain non-exclusive, wake", vec![shared(plain(A)), plain(A)], vec![wake(A, 1)])
                .gated(),
        ),
        rung(Config { name: "false bell: W1{a,b}; plain W2{b}, 1a, wake b", ..mixed() }),
        rung(case("false bell: timed taker, close", vec![timed(take(&[A]))], vec![put(A), Helper::Close(A)])),
    ]
}

pub(crate) fn false_bell_plain() -> Config {
    // The first to be chosen is the one whose bell is false.
    Config {
        name: "false bell: plain W1; plain W2, 2 wakes",
        bells: vec![NONE],
        false_bell: 0,
        ..plain_pair()
    }
}

fn plain_pair() -> Config {
    case("2 plain, 2 wakes", vec![plain(A); 2], vec![wake(A, 1); 2]).gated()
}

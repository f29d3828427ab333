// SPDX-License-Identifier: MIT
//
// How a cost grows with the number of tasks: the same as growth.c does. A oneshot cannot be used twice, so theirs are
// made anew for each round.
use crate::compute::{fail, size, Measured, Stopwatch};
use crate::tasks::NO_JOIN;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::oneshot;
use tokio::task::{spawn, yield_now, JoinHandle};

// So many, if that is allowed.
pub fn at_most(count: u64) -> u64 {
    count.min(size("ROUTINES_BENCH_MILLION", 1000000))
}

// Those who have come to where they are to be. Relaxed: a count; nothing is read that was written before.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

fn arrive() {
    ARRIVED.fetch_add(1, Ordering::Relaxed);
}

async fn all_arrive(count: u64) {
    while ARRIVED.load(Ordering::Relaxed) < count {
        yield_now().await;
    }
}

pub async fn spawns(n: u64, most: u64) -> f64 {
    let count = at_most(most);
    let mut senders = Vec::with_capacity(count as usize);
    let mut tasks: Vec<JoinHandle<u64>> = Vec::with_capacity(count as usize);
    for _ in 0..n {
        ARRIVED.store(0, Ordering::Relaxed);
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel();
            senders.push(sender);
            tasks.push(spawn(async move {
                arrive();
                receiver.await.unwrap_or(u64::MAX)
            }));
        }
        all_arrive(count).await;
        for (i, sender) in (0..).zip(senders.drain(..)) {
            if sender.send(i).is_err() {
                fail("a send failed");
            }
        }
        for (i, task) in (0..).zip(tasks.drain(..)) {
            if task.await.expect(NO_JOIN) != i {
                fail("a task did not receive what was sent");
            }
        }
    }
    (n * count) as f64
}

struct Crowd {
    begun: OnceLock<Stopwatch>, // set when all have arrived
    go: AtomicBool,             // and then this; release and acquire, so that the clock is seen
    finished: AtomicU64,
    measured: OnceLock<Measured>,
}

pub async fn yields(n: u64, most: u64) -> Measured {
    const TURNS: u64 = 8;
    let count = at_most(most);
    let operations = (TURNS * n * count) as f64;
    let crowd = Arc::new(Crowd {
        begun: OnceLock::new(),
        go: AtomicBool::new(false),
        finished: AtomicU64::new(0),
        measured: OnceLock::new(),
    });
    ARRIVED.store(0, Ordering::Relaxed);
    let mut tasks = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let crowd = crowd.clone();
        tasks.push(spawn(async move {
            arrive();
            while !crowd.go.load(Ordering::Acquire) {
                yield_now().await;
            }
            for _ in 0..TURNS * n {
                yield_now().await;
            }
            // relaxed: a count; what is written behind it is read after a join
            if crowd.finished.fetch_add(1, Ordering::Relaxed) + 1 == count {
                let clock = crowd.begun.get().expect("the clock was not started");
                let _ = crowd.measured.set(clock.measured(operations));
            }
        }));
    }
    all_arrive(count).await;
    let _ = crowd.begun.set(Stopwatch::start());
    crowd.go.store(true, Ordering::Release);
    for task in tasks {
        task.await.expect(NO_JOIN);
    }
    *crowd.measured.get().expect("nobody was the last one")
}

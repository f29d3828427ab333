// SPDX-License-Identifier: MIT
//
// Tasks, to start them, to await them and to have many: the same as yield.c, go_join.c, thousand.c, fib.c and memory.c
// do.
use crate::compute::{fail, proc_bytes, size, Figures, Stopwatch};
use crate::growth::at_most;
use std::future::Future;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;
use tokio::task::{spawn, yield_now, JoinHandle};

pub const NO_JOIN: &str = "a task ended by a panic";

// Two tasks a worker.
pub async fn yields(n: u64) -> f64 {
    let count = 2 * tokio::runtime::Handle::current().metrics().num_workers() as u64;
    let each = n.div_ceil(count);
    let tasks: Vec<JoinHandle<()>> = (0..count)
        .map(|_| {
            spawn(async move {
                for _ in 0..each {
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect(NO_JOIN);
    }
    (each * count) as f64
}

pub async fn go_join(n: u64) -> f64 {
    for _ in 0..n {
        spawn(async {}).await.expect(NO_JOIN);
    }
    n as f64
}

pub async fn thousand(n: u64) -> f64 {
    let mut tasks = Vec::with_capacity(1000);
    for _ in 0..n {
        for _ in 0..1000 {
            tasks.push(spawn(async {}));
        }
        for task in tasks.drain(..) {
            task.await.expect(NO_JOIN);
        }
    }
    n as f64
}

// A task for one half; the other is awaited in place, from a box, as a recursive future must be.
fn fib(n: u64) -> impl Future<Output = u64> + Send {
    async move {
        if n < 2 {
            return n;
        }
        let a = spawn(fib(n - 1));
        let b = Box::pin(fib(n - 2)).await;
        a.await.expect(NO_JOIN) + b
    }
}

pub async fn fibs(n: u64) -> f64 {
    let of = size("ROUTINES_BENCH_FIB", 30);
    let (mut is, mut after) = (0, 1); // fib(of), fib(of + 1)
    for _ in 0..of {
        (is, after) = (after, is + after);
    }
    for _ in 0..n {
        if fib(of).await != is {
            fail("the wrong Fibonacci number");
        }
    }
    n as f64 * (after - 1).max(1) as f64
}

// Neither the oneshots nor the handles are counted: they are there before.
pub async fn memory_parked(most: u64) -> Figures {
    static ARRIVED: AtomicU64 = AtomicU64::new(0);
    let count = at_most(most);
    let (senders, mut receivers): (Vec<_>, Vec<_>) =
        (0..count).map(|_| oneshot::channel::<u64>()).unzip();
    let mut tasks: Vec<Option<JoinHandle<u64>>> = Vec::with_capacity(count as usize);
    black_box(&mut tasks); // or it could all be zeros that are not there yet
    tasks.resize_with(count as usize, || None);

    let resident = proc_bytes("/proc/self/smaps_rollup", "Rss:");
    let tables = proc_bytes("/proc/self/status", "VmPTE:");
    let clock = Stopwatch::start();
    // (drain leaves the memory of the vector where it is)
    for (task, receiver) in tasks.iter_mut().zip(receivers.drain(..)) {
        *task = Some(spawn(async move {
            ARRIVED.fetch_add(1, Ordering::Relaxed); // a count; nothing is read that was written before it
            receiver.await.unwrap_or(u64::MAX)
        }));
    }
    while ARRIVED.load(Ordering::Relaxed) < count {
        yield_now().await;
    }
    let (wall, cpu) = clock.stop();
    let each = |bytes: f64| bytes / count as f64;
    let mut counters = vec![
        ("count", count as f64),
        (
            "bytes_each",
            each(proc_bytes("/proc/self/smaps_rollup", "Rss:") - resident),
        ),
        (
            "page_table_bytes_each",
            each(proc_bytes("/proc/self/status", "VmPTE:") - tables),
        ),
        ("cpus", cpu.as_secs_f64() / wall.as_secs_f64()),
    ];

    let clock = Stopwatch::start();
    for (i, sender) in senders.into_iter().enumerate() {
        if sender.send(i as u64).is_err() {
            fail("a send failed");
        }
    }
    for (i, task) in tasks.into_iter().flatten().enumerate() {
        if task.await.expect(NO_JOIN) != i as u64 {
            fail("a parked task did not receive what was sent");
        }
    }
    counters.push(("end_us_each", each(clock.stop().0.as_nanos() as f64 / 1e3)));
    Figures {
        value: each(wall.as_nanos() as f64),
        counters,
    }
}

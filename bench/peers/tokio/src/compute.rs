// SPDX-License-Identifier: MIT
//
// What all benchmarks but the servers have in common: their table, a runtime for each, the measuring, the result.
//
// The runtime is as #[tokio::main] would make it, with all drivers: current_thread for one worker, multi_thread for
// more; "-multi" is multi_thread with one worker too. The whole benchmark, its clock included, is a task: the main thread
// only waits in block_on, and is no worker more.
use crate::{channels, growth, locks, tasks, times, work};
use std::ffi::{c_int, c_long};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub type Running<T> = Pin<Box<dyn Future<Output = T> + Send>>;

// What was measured by a benchmark that measures for itself.
pub struct Figures {
    pub value: f64, // ns
    pub counters: Vec<(&'static str, f64)>,
}

// What was measured of something done often.
#[derive(Clone, Copy)]
pub struct Measured {
    operations: f64,
    wall: Duration,
    cpu: Duration,
}

// A benchmark does something n times, which is timed, with or without what is before and behind; or it does it once,
// in this process that has done nothing else, and measures for itself. The former may have something to prepare.
enum Work {
    Often(fn(u64) -> Running<Measured>),
    Prepared(fn(), fn(u64) -> Running<Measured>),
    Once(fn() -> Running<Figures>),
}

// Times the whole of what says how many operations it was.
async fn whole(run: impl Future<Output = f64>) -> Measured {
    let clock = Stopwatch::start();
    let operations = run.await;
    clock.measured(operations)
}

macro_rules! often {
    ($function:path $(, $argument:expr)*) => {
        Work::Often(|n| Box::pin(whole($function(n $(, $argument)*))))
    };
}

// It times a part itself.
macro_rules! part {
    ($function:path $(, $argument:expr)*) => {
        Work::Often(|n| Box::pin($function(n $(, $argument)*)))
    };
}

macro_rules! tree {
    ($function:ident) => {
        Work::Prepared(
            || work::count_nodes::<{ work::ROUNDS }>(work::SEED, work::NODES),
            |n| Box::pin(whole(work::$function::<{ work::ROUNDS }>(n, work::SEED))),
        )
    };
}

macro_rules! tree_fine {
    ($function:ident) => {
        Work::Prepared(
            || work::count_nodes::<{ work::FINE_ROUNDS }>(work::FINE_SEED, work::FINE_NODES),
            |n| {
                Box::pin(whole(work::$function::<{ work::FINE_ROUNDS }>(
                    n,
                    work::FINE_SEED,
                )))
            },
        )
    };
}

macro_rules! once {
    ($function:path $(, $argument:expr)*) => {
        Work::Once(|| Box::pin($function($($argument),*)))
    };
}

const MILLION: u64 = 1000000;

const BENCHMARKS: &[(&str, Work)] = &[
    ("yield/peer-tokio", often!(tasks::yields)),
    ("go_join/peer-tokio", often!(tasks::go_join)),
    ("thousand/peer-tokio", often!(tasks::thousand)),
    ("fib/peer-tokio", often!(tasks::fibs)),
    ("fib/peer-tokio-multi", often!(tasks::fibs)),
    (
        "memory_parked/peer-tokio",
        once!(tasks::memory_parked, MILLION),
    ),
    ("skynet/peer-tokio", once!(channels::skynet, 1)),
    ("skynet/peer-tokio-multi", once!(channels::skynet, 1)),
    ("skynet/peer-tokio-buffered", once!(channels::skynet, 10)),
    ("skynet/peer-tokio-join", once!(channels::skynet_join)),
    ("ping_pong/peer-tokio", often!(channels::ping_pong)),
    ("buffered/peer-tokio", often!(channels::buffered)),
    ("buffered_4_4/peer-tokio", often!(channels::buffered_4_4)),
    ("select/peer-tokio", often!(channels::select)),
    (
        "select_ready_4/peer-tokio",
        often!(channels::select_ready_4),
    ),
    ("mutex/peer-tokio", often!(locks::mutex)),
    ("mutex/peer-tokio-std", often!(locks::std_mutex)),
    (
        "mutex_uncontended/peer-tokio",
        often!(locks::mutex_uncontended),
    ),
    (
        "mutex_uncontended/peer-tokio-std",
        often!(locks::std_mutex_uncontended),
    ),
    ("sleepers/peer-tokio", once!(times::sleepers)),
    ("sort/peer-tokio", once!(work::sort_once)),
    ("sort/peer-tokio-serial", once!(work::sort_once_alone)),
    ("tree/peer-tokio", tree!(trees)),
    ("tree/peer-tokio-multi", tree!(trees)),
    ("tree/peer-tokio-serial", tree!(trees_alone)),
    ("tree_fine/peer-tokio", tree_fine!(trees)),
    ("tree_fine/peer-tokio-multi", tree_fine!(trees)),
    ("tree_fine/peer-tokio-serial", tree_fine!(trees_alone)),
    ("growth_spawn_1000/peer-tokio", often!(growth::spawns, 1000)),
    (
        "growth_spawn_10000/peer-tokio",
        often!(growth::spawns, 10000),
    ),
    (
        "growth_spawn_100000/peer-tokio",
        often!(growth::spawns, 100000),
    ),
    (
        "growth_spawn_1000000/peer-tokio",
        often!(growth::spawns, 1000000),
    ),
    ("growth_yield_1000/peer-tokio", part!(growth::yields, 1000)),
    (
        "growth_yield_10000/peer-tokio",
        part!(growth::yields, 10000),
    ),
    (
        "growth_yield_100000/peer-tokio",
        part!(growth::yields, 100000),
    ),
    (
        "growth_yield_1000000/peer-tokio",
        part!(growth::yields, 1000000),
    ),
    (
        "growth_memory_1000/peer-tokio",
        once!(tasks::memory_parked, 1000),
    ),
    (
        "growth_memory_10000/peer-tokio",
        once!(tasks::memory_parked, 10000),
    ),
    (
        "growth_memory_100000/peer-tokio",
        once!(tasks::memory_parked, 100000),
    ),
];

pub fn fail(message: &str) -> ! {
    eprintln!("peer-tokio: {message}");
    std::process::exit(1);
}

fn number(variable: &str, otherwise: f64) -> f64 {
    match std::env::var(variable).map(|text| text.parse()) {
        Ok(Ok(value)) if value > 0.0 => value,
        _ => otherwise,
    }
}

// A size out of the environment.
pub fn size(variable: &str, otherwise: u64) -> u64 {
    (number(variable, otherwise as f64) as u64).max(1)
}

// The first and the last but one of what the i-th of count tasks sends or does, of n in all.
pub fn share(n: u64, i: u64, count: u64) -> std::ops::Range<u64> {
    let first = |i: u64| n / count * i + i.min(n % count);
    first(i)..first(i + 1)
}

// What has passed since the start.
pub struct Stopwatch {
    cpu_begun: Duration,
    begun: Instant,
}

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

extern "C" {
    // of the C library, which std uses anyway, and which is asked because std has no clock of CPU time
    fn clock_gettime(clock: c_int, now: *mut Timespec) -> c_int;
}

const CLOCK_PROCESS_CPUTIME_ID: c_int = 2; // Linux's number

// The CPU time of this process.
fn cpu_time() -> Duration {
    let mut now = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: it writes one timespec, which is two longs on Linux with 64 bits
    if unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut now) } != 0 {
        fail("no clock of CPU time");
    }
    Duration::new(now.seconds as u64, now.nanoseconds as u32)
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch {
            cpu_begun: cpu_time(),
            begun: Instant::now(),
        }
    }

    // Wall time and CPU time since the start.
    pub fn stop(&self) -> (Duration, Duration) {
        let wall = self.begun.elapsed();
        (wall, cpu_time() - self.cpu_begun)
    }

    pub fn measured(&self, operations: f64) -> Measured {
        let (wall, cpu) = self.stop();
        Measured {
            operations,
            wall,
            cpu,
        }
    }
}

// A figure in kB out of a file of /proc, in bytes.
pub fn proc_bytes(path: &str, key: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

// Repeats until it takes long enough to be measured: that run counts, those before it warm up.
async fn measure(run: fn(u64) -> Running<Measured>) -> Figures {
    let enough = number("ROUTINES_BENCH_SECONDS", 0.5);
    let mut n = 1;
    loop {
        let measured = run(n).await;
        let seconds = measured.wall.as_secs_f64();
        if seconds >= enough {
            return Figures {
                value: seconds * 1e9 / measured.operations,
                counters: vec![("cpus", measured.cpu.as_secs_f64() / seconds)],
            };
        }
        n = if seconds < enough / 20.0 {
            n * 10
        } else {
            (n as f64 * enough / seconds * 1.2) as u64 + 1
        };
    }
}

pub fn list() {
    for (name, _) in BENCHMARKS {
        println!("{name}");
    }
}

pub fn run(name: &str, workers: usize) {
    let Some((_, work)) = BENCHMARKS.iter().find(|(known, _)| *known == name) else {
        fail(&format!("no such benchmark: {name}"));
    };
    let mut builder = if workers == 1 && !name.ends_with("-multi") {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("no runtime");
    let task = match *work {
        Work::Often(run) => runtime.spawn(measure(run)),
        Work::Prepared(prepare, run) => {
            prepare();
            runtime.spawn(measure(run))
        }
        Work::Once(run) => runtime.spawn(run()),
    };
    let figures = runtime.block_on(task).expect("a panic");
    let counters: Vec<String> = figures
        .counters
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    println!(
        "{{\"name\":\"{name}\",\"workers\":{workers},\"value\":{},\"unit\":\"ns\",\"counters\":{{{}}}}}",
        figures.value,
        counters.join(",")
    );
}

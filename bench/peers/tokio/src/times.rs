// SPDX-License-Identifier: MIT
//
// Sleeping: the same as sleepers.c does. tokio's timers count in milliseconds, and round up.
use crate::compute::{fail, size, Figures, Stopwatch};
use crate::tasks::NO_JOIN;
use std::time::{Duration, Instant};
use tokio::task::{spawn, JoinHandle};

const SHORTEST: u64 = 10_000_000; // ns
const LONGEST: u64 = 1_000_000_000;
const SEED: u64 = 0x9e3779b97f4a7c15;

// Marsaglia's xorshift64*, as in sleepers.c: all sleep alike.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(2685821657736338717)
}

// By how much it was late.
async fn sleep_once(duration: Duration) -> Duration {
    let begun = Instant::now();
    tokio::time::sleep(duration).await;
    begun
        .elapsed()
        .checked_sub(duration)
        .unwrap_or_else(|| fail("a sleeper was early"))
}

pub async fn sleepers() -> Figures {
    let count = (size("ROUTINES_BENCH_MILLION", 1000000) / 10).max(1);
    let mut random = SEED;
    let durations: Vec<Duration> = (0..count)
        .map(|_| {
            Duration::from_nanos(SHORTEST + next_random(&mut random) % (LONGEST - SHORTEST + 1))
        })
        .collect();
    let clock = Stopwatch::start();
    let tasks: Vec<JoinHandle<Duration>> = durations
        .iter()
        .map(|&duration| spawn(sleep_once(duration)))
        .collect();
    let (mut worst, mut sum) = (Duration::ZERO, Duration::ZERO);
    for task in tasks {
        let late = task.await.expect(NO_JOIN);
        worst = worst.max(late);
        sum += late;
    }
    let (wall, cpu) = clock.stop();
    let counters = vec![
        ("wall_s", wall.as_secs_f64()),
        ("late_us", worst.as_nanos() as f64 / 1e3),
        ("late_mean_us", sum.as_nanos() as f64 / 1e3 / count as f64),
        ("count", count as f64),
        ("cpus", cpu.as_secs_f64() / wall.as_secs_f64()),
    ];
    Figures {
        value: cpu.as_nanos() as f64 / count as f64,
        counters,
    }
}

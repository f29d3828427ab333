// SPDX-License-Identifier: MIT
//
// Locks: the same as mutex.c does. tokio's documentation wants its own mutex only where the lock is held across an
// await, and the standard library's everywhere else: hence "-std", which blocks the thread where it has to wait.
use crate::compute::fail;
use crate::tasks::NO_JOIN;
use std::hint::black_box;
use std::sync::Arc;
use tokio::task::{spawn, JoinHandle};

const THOUSAND: u64 = 1000;
const NOT_LOCKED: &str = "a lock failed";

// n times: a thousand tasks, each of which is one that start makes.
async fn thousands(n: u64, mut start: impl FnMut() -> JoinHandle<()>) {
    let mut tasks = Vec::with_capacity(THOUSAND as usize);
    for _ in 0..n {
        for _ in 0..THOUSAND {
            tasks.push(start());
        }
        for task in tasks.drain(..) {
            task.await.expect(NO_JOIN);
        }
    }
}

fn checked(sum: u64, should: u64) -> f64 {
    if sum != should {
        fail("the wrong sum: the mutex let two in");
    }
    sum as f64
}

pub async fn mutex(n: u64) -> f64 {
    let lock = Arc::new(tokio::sync::Mutex::new(0));
    thousands(n, || {
        let lock = lock.clone();
        spawn(async move {
            for _ in 0..THOUSAND {
                *lock.lock().await += 1;
            }
        })
    })
    .await;
    let sum = *lock.lock().await;
    checked(sum, n * THOUSAND * THOUSAND)
}

pub async fn std_mutex(n: u64) -> f64 {
    let lock = Arc::new(std::sync::Mutex::new(0));
    thousands(n, || {
        let lock = lock.clone();
        spawn(async move {
            for _ in 0..THOUSAND {
                *lock.lock().expect(NOT_LOCKED) += 1;
            }
        })
    })
    .await;
    let sum = *lock.lock().expect(NOT_LOCKED);
    checked(sum, n * THOUSAND * THOUSAND)
}

pub async fn mutex_uncontended(n: u64) -> f64 {
    let lock = tokio::sync::Mutex::new(0);
    let shared = black_box(&lock); // somebody else could want it
    for _ in 0..n {
        *shared.lock().await += 1;
    }
    let sum = *shared.lock().await;
    checked(sum, n)
}

pub async fn std_mutex_uncontended(n: u64) -> f64 {
    let lock = std::sync::Mutex::new(0);
    let shared = black_box(&lock);
    for _ in 0..n {
        *shared.lock().expect(NOT_LOCKED) += 1;
    }
    let sum = *shared.lock().expect(NOT_LOCKED);
    checked(sum, n)
}

// SPDX-License-Identifier: MIT
//
// Channels and select: the same as skynet.c, ping_pong.c, buffered.c and select.c do.
//
// tokio has no rendezvous channel: one with room for one message stands for it, which is less work, since a sender that
// finds room doesn't wait for the receiver. And its channels have one receiver only: see buffered_4_4.
use crate::compute::{fail, proc_bytes, share, size, Figures, Stopwatch};
use crate::tasks::NO_JOIN;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::{mpsc, Mutex};
use tokio::task::{spawn, JoinHandle};

const CLOSED: &str = "a channel was closed";

// ---- skynet ----

fn leaves() -> u64 {
    10u64.pow(size("ROUTINES_BENCH_MILLION", 1000000).ilog10())
}

fn node(
    parent: mpsc::Sender<u64>,
    first: u64,
    size: u64,
    capacity: usize,
) -> impl Future<Output = ()> + Send {
    async move {
        if size == 1 {
            parent.send(first).await.expect(CLOSED);
            return;
        }
        let (sender, mut receiver) = mpsc::channel(capacity);
        for i in 0..10 {
            spawn(node(
                sender.clone(),
                first + i * (size / 10),
                size / 10,
                capacity,
            ));
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += receiver.recv().await.expect(CLOSED);
        }
        parent.send(sum).await.expect(CLOSED);
    }
}

fn subtree(first: u64, size: u64) -> impl Future<Output = u64> + Send {
    async move {
        if size == 1 {
            return first;
        }
        let children: [JoinHandle<u64>; 10] =
            std::array::from_fn(|i| spawn(subtree(first + i as u64 * (size / 10), size / 10)));
        let mut sum = 0;
        for child in children {
            sum += child.await.expect(NO_JOIN);
        }
        sum
    }
}

async fn tree(leaves: u64, sum: impl Future<Output = u64>) -> Figures {
    // makes the peak VmHWM what is resident now; where the kernel cannot do it, this process has nothing to forget
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = proc_bytes("/proc/self/status", "VmHWM:");
    let clock = Stopwatch::start();
    let sum = sum.await;
    let (wall, cpu) = clock.stop();
    if sum != leaves * (leaves - 1) / 2 {
        fail("the wrong sum");
    }
    let counters = vec![
        ("leaves", leaves as f64),
        (
            "peak_bytes",
            proc_bytes("/proc/self/status", "VmHWM:") - before,
        ),
        ("cpus", cpu.as_secs_f64() / wall.as_secs_f64()),
    ];
    Figures {
        value: wall.as_nanos() as f64,
        counters,
    }
}

pub async fn skynet(capacity: usize) -> Figures {
    tree(leaves(), async move {
        let (sender, mut receiver) = mpsc::channel(capacity);
        spawn(node(sender, 0, leaves(), capacity));
        receiver.recv().await.expect(CLOSED)
    })
    .await
}

pub async fn skynet_join() -> Figures {
    tree(leaves(), async {
        spawn(subtree(0, leaves())).await.expect(NO_JOIN)
    })
    .await
}

// ---- messages ----

pub async fn ping_pong(n: u64) -> f64 {
    let (ping, mut pinged) = mpsc::channel(1);
    let (pong, mut ponged) = mpsc::channel(1);
    let partner = spawn(async move {
        while let Some(ball) = pinged.recv().await {
            pong.send(ball + 1).await.expect(CLOSED);
        }
    });
    for i in 0..n {
        ping.send(i).await.expect(CLOSED);
        if ponged.recv().await != Some(i + 1) {
            fail("the wrong ball came back");
        }
    }
    drop(ping);
    partner.await.expect(NO_JOIN);
    n as f64
}

const ROOM: usize = 128;

// Sends its share of n numbers, as the i-th of count.
fn produce(sender: mpsc::Sender<u64>, n: u64, i: u64, count: u64) -> JoinHandle<()> {
    spawn(async move {
        for value in share(n, i, count) {
            sender.send(value).await.expect(CLOSED);
        }
    })
}

// Awaits who has sent and who has received, and checks the count and the sum of what was received.
async fn compare(n: u64, producers: Vec<JoinHandle<()>>, consumers: Vec<JoinHandle<(u64, u64)>>) {
    for producer in producers {
        producer.await.expect(NO_JOIN);
    }
    let (mut count, mut sum) = (0, 0);
    for consumer in consumers {
        let (one_count, one_sum) = consumer.await.expect(NO_JOIN);
        count += one_count;
        sum += one_sum;
    }
    if count != n || sum != n * (n - 1) / 2 {
        fail("what was received is not what was sent");
    }
}

pub async fn buffered(n: u64) -> f64 {
    let (sender, mut receiver) = mpsc::channel::<u64>(ROOM);
    let consumer = spawn(async move {
        let (mut count, mut sum) = (0, 0);
        while let Some(value) = receiver.recv().await {
            count += 1;
            sum += value;
        }
        (count, sum)
    });
    compare(n, vec![produce(sender, n, 0, 1)], vec![consumer]).await;
    n as f64
}

// The receiver, shared by its four consumers under tokio's mutex: what can be done with tokio alone. A consumer
// that waits for a message holds the mutex while it waits.
pub async fn buffered_4_4(n: u64) -> f64 {
    let (sender, receiver) = mpsc::channel::<u64>(ROOM);
    let receiver = Arc::new(Mutex::new(receiver));
    let consumers = (0..4)
        .map(|_| {
            let receiver = receiver.clone();
            spawn(async move {
                let (mut count, mut sum) = (0, 0);
                loop {
                    let received = receiver.lock().await.recv().await; // unlocked at the end of the statement
                    let Some(value) = received else { break };
                    count += 1;
                    sum += value;
                }
                (count, sum)
            })
        })
        .collect();
    let producers = (0..4).map(|i| produce(sender.clone(), n, i, 4)).collect();
    drop(sender);
    compare(n, producers, consumers).await;
    n as f64
}

// ---- select ----

pub async fn select(n: u64) -> f64 {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel::<u64>(1)).unzip();
    let producers: Vec<_> = (0..4)
        .zip(senders)
        .map(|(i, sender)| produce(sender, n, i, 4))
        .collect();
    let [mut a, mut b, mut c, mut d]: [mpsc::Receiver<u64>; 4] =
        receivers.try_into().expect("four");
    let (mut received, mut sum) = ([0; 4], 0);
    for _ in 0..n {
        // (a closed one is left out: the pattern does not match)
        let (chosen, value) = tokio::select! {
            Some(value) = a.recv() => (0, value),
            Some(value) = b.recv() => (1, value),
            Some(value) = c.recv() => (2, value),
            Some(value) = d.recv() => (3, value),
            else => fail(CLOSED),
        };
        received[chosen] += 1;
        sum += value;
    }
    for producer in producers {
        producer.await.expect(NO_JOIN);
    }
    if (0..4).any(|i| received[i as usize] != share(n, i, 4).count()) {
        fail("a select said the wrong channel");
    }
    if sum != n * (n - 1) / 2 {
        fail("what was received is not what was sent");
    }
    n as f64
}

// Each channel holds its own number.
pub async fn select_ready_4(n: u64) -> f64 {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::channel(1)).unzip();
    for (i, sender) in senders.iter().enumerate() {
        sender.send(i).await.expect(CLOSED);
    }
    let [mut a, mut b, mut c, mut d]: [mpsc::Receiver<usize>; 4] =
        receivers.try_into().expect("four");
    for _ in 0..n {
        let (chosen, value) = tokio::select! {
            Some(value) = a.recv() => (0, value),
            Some(value) = b.recv() => (1, value),
            Some(value) = c.recv() => (2, value),
            Some(value) = d.recv() => (3, value),
            else => fail(CLOSED),
        };
        if value != chosen {
            fail("a select chose the wrong channel");
        }
        senders[chosen].send(value).await.expect(CLOSED);
    }
    n as f64
}

// SPDX-License-Identifier: MIT
//
// What looks like real work: the same as sort.c and tree.c do. Tasks are spawned for it as for anything else; of two
// halves one is spawned, the other awaited in place, from a box, as a recursive future must be.
//
// A task may outlive who has spawned it, so it cannot borrow a part of an array: the sort has pointers instead, and
// awaits every task before it returns. They also spare it the checks of bounds, which C does not have either.
use crate::compute::{fail, size, Figures, Stopwatch};
use crate::tasks::NO_JOIN;
use std::future::Future;
use std::hint::black_box;
use std::sync::OnceLock;
use tokio::task::{spawn, JoinHandle};

const GOLDEN: u64 = 0x9e3779b97f4a7c15;

// The end of splitmix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
    z ^ z >> 31
}

// ---- sort ----

const LEAF: usize = 2048; // as many are sorted by a quicksort of one task
const GRAIN: usize = 4096; // and merged by one task
const INSERTION: usize = 24;
const USUAL: u64 = 20000000;
const USUAL_SUM: u64 = 0x9c9fe4e033157074;

// A part of an array, without its length. Who has it is sure that nobody else touches that part, and that the
// array is there.
#[derive(Clone, Copy)]
struct Part(*mut i32);

// SAFETY: no two tasks have parts that overlap at the same time, but for those that are only read
unsafe impl Send for Part {}

impl Part {
    fn from(self, i: usize) -> Part {
        // SAFETY: within the array, or at its end
        Part(unsafe { self.0.add(i) })
    }

    fn at(self, i: usize) -> i32 {
        // SAFETY: within the part
        unsafe { *self.0.add(i) }
    }

    fn set(self, i: usize, value: i32) {
        // SAFETY: within the part
        unsafe { *self.0.add(i) = value }
    }

    fn swap(self, i: usize, j: usize) {
        let value = self.at(i);
        self.set(i, self.at(j));
        self.set(j, value);
    }

    // Copies n of them; the two don't overlap.
    fn copy(self, n: usize, to: Part) {
        // SAFETY: both are that long
        unsafe { std::ptr::copy_nonoverlapping(self.0, to.0, n) }
    }

    // The first of n sorted ones that is not less than the value.
    fn lower_bound(self, n: usize, value: i32) -> usize {
        let (mut first, mut left) = (0, n);
        while left > 0 {
            let half = left / 2;
            if self.at(first + half) < value {
                first += half + 1;
                left -= half + 1;
            } else {
                left = half;
            }
        }
        first
    }
}

fn median(a: i32, b: i32, c: i32) -> i32 {
    a.min(b).max(a.max(b).min(c))
}

// Quicksort with Hoare's partition.
fn sort_leaf(mut a: Part, mut n: usize) {
    while n > INSERTION {
        let pivot = median(a.at(0), a.at(n / 2), a.at(n - 1));
        let (mut i, mut j) = (0, n - 1);
        loop {
            while a.at(i) < pivot {
                i += 1;
            }
            while a.at(j) > pivot {
                j -= 1;
            }
            if i >= j {
                break;
            }
            a.swap(i, j);
            i += 1;
            j -= 1;
        }
        sort_leaf(a, j + 1);
        a = a.from(j + 1);
        n -= j + 1;
    }
    for i in 1..n {
        let value = a.at(i);
        let mut j = i;
        while j > 0 && a.at(j - 1) > value {
            a.set(j, a.at(j - 1));
            j -= 1;
        }
        a.set(j, value);
    }
}

// Of equal ones those of x are first. Written so that the comparison becomes no branch.
fn merge_serially(mut x: Part, mut nx: usize, mut y: Part, mut ny: usize, mut out: Part) {
    while nx > 0 && ny > 0 {
        let (v, w) = (x.at(0), y.at(0));
        let take = w < v;
        out.set(0, if take { w } else { v });
        out = out.from(1);
        y = y.from(take as usize);
        ny -= take as usize;
        x = x.from(!take as usize);
        nx -= !take as usize;
    }
    x.copy(nx, out);
    y.copy(ny, out.from(nx));
}

// Where two long parts are cut: the longer one is first, and what is before i in it and before j in the other comes
// before what is behind.
fn cut(x: Part, nx: usize, y: Part, ny: usize) -> (Part, usize, Part, usize, usize, usize) {
    let (x, nx, y, ny) = if nx < ny {
        (y, ny, x, nx)
    } else {
        (x, nx, y, ny)
    };
    let i = nx / 2;
    (x, nx, y, ny, i, y.lower_bound(ny, x.at(i)))
}

fn merge(x: Part, nx: usize, y: Part, ny: usize, out: Part) -> impl Future<Output = ()> + Send {
    async move {
        if nx + ny <= GRAIN {
            return merge_serially(x, nx, y, ny, out);
        }
        let (x, nx, y, ny, i, j) = cut(x, nx, y, ny);
        let task = spawn(merge(x, i, y, j, out));
        Box::pin(merge(x.from(i), nx - i, y.from(j), ny - j, out.from(i + j))).await;
        task.await.expect(NO_JOIN);
    }
}

// Sorts the n of a, with as much room in t; the result is in t or in a.
fn sort(a: Part, t: Part, n: usize, in_t: bool) -> impl Future<Output = ()> + Send {
    async move {
        if n <= LEAF {
            sort_leaf(a, n);
            if in_t {
                a.copy(n, t);
            }
            return;
        }
        let m = n / 2;
        let task = spawn(sort(a, t, m, !in_t));
        Box::pin(sort(a.from(m), t.from(m), n - m, !in_t)).await;
        task.await.expect(NO_JOIN);
        let (from, to) = if in_t { (a, t) } else { (t, a) };
        merge(from, m, from.from(m), n - m, to).await;
    }
}

// The same without tasks.

fn merge_alone(x: Part, nx: usize, y: Part, ny: usize, out: Part) {
    if nx + ny <= GRAIN {
        return merge_serially(x, nx, y, ny, out);
    }
    let (x, nx, y, ny, i, j) = cut(x, nx, y, ny);
    merge_alone(x, i, y, j, out);
    merge_alone(x.from(i), nx - i, y.from(j), ny - j, out.from(i + j));
}

fn sort_alone(a: Part, t: Part, n: usize, in_t: bool) {
    if n <= LEAF {
        sort_leaf(a, n);
        if in_t {
            a.copy(n, t);
        }
        return;
    }
    let m = n / 2;
    sort_alone(a, t, m, !in_t);
    sort_alone(a.from(m), t.from(m), n - m, !in_t);
    let (from, to) = if in_t { (a, t) } else { (t, a) };
    merge_alone(from, m, from.from(m), n - m, to);
}

// A sum of the numbers in any order.
fn sum_of_all(numbers: &[i32]) -> u64 {
    numbers
        .iter()
        .fold(0, |sum, &value| sum.wrapping_add(mix(value as u32 as u64)))
}

fn sum_in_order(numbers: &[i32]) -> u64 {
    let products = (1..)
        .zip(numbers)
        .map(|(i, &value)| (value as u32 as u64).wrapping_mul(i));
    products.fold(0, u64::wrapping_add)
}

// Makes the arrays, sorts by what is given, checks.
async fn sorted<Sorting: Future<Output = ()>>(
    by: impl FnOnce(Part, Part, usize) -> Sorting,
) -> Figures {
    let n = size("ROUTINES_BENCH_SORT", USUAL);
    let mut a: Vec<i32> = (1..=n)
        .map(|i| (mix(i.wrapping_mul(GOLDEN)) >> 32) as i32)
        .collect();
    let mut t: Vec<i32> = Vec::with_capacity(n as usize);
    black_box(&mut t); // or it could be zeros that are not there yet
    t.resize(n as usize, 0);
    let before = sum_of_all(&a);
    let sorting = by(Part(a.as_mut_ptr()), Part(t.as_mut_ptr()), n as usize);

    let clock = Stopwatch::start();
    sorting.await;
    let (wall, cpu) = clock.stop();

    if !a.is_sorted() {
        fail("not sorted");
    }
    if sum_of_all(&a) != before || (n == USUAL && sum_in_order(&a) != USUAL_SUM) {
        fail("these are not the numbers that were to be sorted");
    }
    let counters = vec![
        ("count", n as f64),
        ("cpus", cpu.as_secs_f64() / wall.as_secs_f64()),
    ];
    Figures {
        value: wall.as_nanos() as f64,
        counters,
    }
}

pub async fn sort_once() -> Figures {
    sorted(|a, t, n| sort(a, t, n, false)).await
}

pub async fn sort_once_alone() -> Figures {
    sorted(|a, t, n| async move { sort_alone(a, t, n, false) }).await
}

// ---- tree ----

const LIMIT: u64 = 536334041; // 0.124875 of 2^32
const CHILDREN: u64 = 8;

const USUAL_ROOTS: u64 = 2000; // with which there are so many nodes:

pub const ROUNDS: u32 = 24;
pub const SEED: u64 = 1;
pub const NODES: u64 = 3543105;
pub const FINE_ROUNDS: u32 = 1;
pub const FINE_SEED: u64 = 3;
pub const FINE_NODES: u64 = 3676273;

// What a node is worth, and whether it has children: then their numbers begin with this.
fn children<const ROUNDS: u32>(mut x: u64) -> Option<u64> {
    for _ in 0..ROUNDS {
        x = mix(x.wrapping_add(GOLDEN));
    }
    (x >> 32 < LIMIT).then_some(x)
}

fn visit<const ROUNDS: u32>(x: u64) -> impl Future<Output = u64> + Send {
    async move {
        let Some(first) = children::<ROUNDS>(x) else {
            return 1;
        };
        let tasks: [JoinHandle<u64>; CHILDREN as usize] =
            std::array::from_fn(|i| spawn(visit::<ROUNDS>(first.wrapping_add(i as u64))));
        let mut nodes = 1;
        for task in tasks {
            nodes += task.await.expect(NO_JOIN);
        }
        nodes
    }
}

fn visit_alone<const ROUNDS: u32>(x: u64) -> u64 {
    match children::<ROUNDS>(x) {
        Some(first) => (0..CHILDREN).fold(1, |nodes, i| {
            nodes + visit_alone::<ROUNDS>(first.wrapping_add(i))
        }),
        None => 1,
    }
}

// The children of the root.
fn roots(seed: u64) -> std::ops::Range<u64> {
    seed << 32..(seed << 32) + size("ROUTINES_BENCH_TREE", USUAL_ROOTS)
}

static COUNTED: OnceLock<u64> = OnceLock::new(); // that there are; a process has one tree

pub fn count_nodes<const ROUNDS: u32>(seed: u64, usual: u64) {
    let nodes = *COUNTED.get_or_init(|| 1 + roots(seed).map(visit_alone::<ROUNDS>).sum::<u64>());
    if roots(seed).count() as u64 == USUAL_ROOTS && nodes != usual {
        fail("this is another tree");
    }
}

pub async fn trees<const ROUNDS: u32>(n: u64, seed: u64) -> f64 {
    let should = *COUNTED.get().expect("count_nodes was not called");
    for _ in 0..n {
        let tasks: Vec<_> = roots(seed).map(|x| spawn(visit::<ROUNDS>(x))).collect();
        let mut nodes = 1; // the root
        for task in tasks {
            nodes += task.await.expect(NO_JOIN);
        }
        if nodes != should {
            fail("the wrong number of nodes");
        }
    }
    (n * should) as f64
}

pub async fn trees_alone<const ROUNDS: u32>(n: u64, seed: u64) -> f64 {
    let should = *COUNTED.get().expect("count_nodes was not called");
    for _ in 0..n {
        let nodes = roots(black_box(seed))
            .map(visit_alone::<ROUNDS>)
            .sum::<u64>();
        if 1 + nodes != should {
            fail("the wrong number of nodes");
        }
    }
    (n * should) as f64
}

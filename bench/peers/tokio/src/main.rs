// SPDX-License-Identifier: MIT
//
// The benchmarks of the library, as tokio would have them. One a process:
//
//     peer-tokio --list                         the names
//     peer-tokio NAME WORKERS                   runs one with so many threads, prints it as a line of JSON
//     peer-tokio echo|http PORT WORKERS [multi] a server for bench/servers
//
// ROUTINES_BENCH_FIB (30 unless given), ROUTINES_BENCH_MILLION, ROUTINES_BENCH_SORT, ROUTINES_BENCH_TREE,
// ROUTINES_BENCH_SECONDS (how long to measure, 0.5): as for the library. Figures are per operation, so a smaller tree
// compares.

// What spawns itself cannot be an async fn: its future has to be declared Send before the compiler can see that it is.
#![allow(clippy::manual_async_fn)]

mod channels;
mod compute;
mod growth;
mod locks;
mod servers;
mod tasks;
mod times;
mod work;

const USAGE: &str = "usage: --list | NAME WORKERS | echo|http PORT WORKERS [multi]";

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| compute::fail(USAGE))
}

fn workers(text: &str) -> usize {
    match number(text) {
        0 => compute::fail(USAGE),
        n => n,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--list"] => compute::list(),
        [what @ ("echo" | "http"), port, threads, ref more @ ..]
            if more.is_empty() || more == ["multi"] =>
        {
            let multi = !more.is_empty();
            if let Err(error) =
                servers::run(what.to_string(), number(port), workers(threads), multi)
            {
                compute::fail(&error.to_string());
            }
        }
        [name, threads] => compute::run(name, workers(threads)),
        _ => compute::fail(USAGE),
    }
}

// SPDX-License-Identifier: MIT
//
// The benchmarks of the library, as Go would have them. One a process:
//
//	peer --list           the names
//	peer NAME WORKERS     runs one with GOMAXPROCS=WORKERS, prints it as a line of JSON
//
// ROUTINES_BENCH_FIB (30 unless given), ROUTINES_BENCH_MILLION, ROUTINES_BENCH_SECONDS
// (how long to measure, 0.5): as for the library. Figures are per operation, so a smaller tree compares.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type result struct {
	Name     string             `json:"name"`
	Workers  int                `json:"workers"`
	Value    float64            `json:"value"`
	Unit     string             `json:"unit"`
	Counters map[string]float64 `json:"counters,omitempty"`
}

// A benchmark does something n times and returns how many operations that was; or it runs the stopwatch itself,
// where only a part of that is timed; or it does it once, in this process that has done nothing else, and measures
// for itself.
type benchmark struct {
	name string
	run  func(n int) float64
	part func(n int, clock *stopwatch) float64
	once func(r *result)
}

var benchmarks = []benchmark{
	{name: "yield/peer-go", run: yield},
	{name: "go_join/peer-go", run: goJoin},
	{name: "thousand/peer-go", run: thousand},
	{name: "fib/peer-go", run: fibs},
	{name: "memory_parked/peer-go", once: memoryParked},
	{name: "skynet/peer-go", once: func(r *result) { skynetOnce(r, overChannels(0)) }},
	{name: "skynet/peer-go-buffered", once: func(r *result) { skynetOnce(r, overChannels(10)) }},
	{name: "skynet/peer-go-join", once: func(r *result) { skynetOnce(r, skynetJoin) }},
	{name: "ping_pong/peer-go", run: pingPong},
	{name: "buffered/peer-go", run: func(n int) float64 { return buffered(n, 1) }},
	{name: "buffered_4_4/peer-go", run: func(n int) float64 { return buffered(n, 4) }},
	{name: "select/peer-go", run: selectFour},
	{name: "select_ready_4/peer-go", run: selectReady4},
	{name: "select_ready_16/peer-go", run: func(n int) float64 { return selectReady(n, 16) }},
	{name: "select_ready_64/peer-go", run: func(n int) float64 { return selectReady(n, 64) }},
	{name: "select_ready_256/peer-go", run: func(n int) float64 { return selectReady(n, 256) }},
	{name: "mutex/peer-go", run: mutex},
	{name: "mutex_uncontended/peer-go", run: mutexUncontended},
	{name: "sem/peer-go", run: semaphore},
	{name: "rwlock_read/peer-go", run: readLock},
	{name: "rwlock_write/peer-go", run: writeLock},
	{name: "waitgroup/peer-go", run: waitGroup},
	{name: "once/peer-go", run: once},
	{name: "sleepers/peer-go", once: sleepers},
	{name: "timer_0/peer-go", part: func(n int, clock *stopwatch) float64 { return resetStop(n, 0, clock) }},
	{name: "timer_0/peer-go-new", run: newStop},
	{name: "timer_1000/peer-go", part: func(n int, clock *stopwatch) float64 { return resetStop(n, 1000, clock) }},
	{name: "timer_million/peer-go", part: resetStopMillion},
	{name: "limit/peer-go", run: limit},
	{name: "limit/peer-go-deadline", run: limitDeadline},
	{name: "limit_recv/peer-go", part: func(n int, clock *stopwatch) float64 { return emptyIt(n, true, clock) }},
	{name: "limit_recv/peer-go-plain", part: func(n int, clock *stopwatch) float64 { return emptyIt(n, false, clock) }},
	{name: "limit_wait/peer-go", run: func(n int) float64 { return limitWait(n, byContext) }},
	{name: "limit_wait/peer-go-timer", run: func(n int) float64 { return limitWait(n, byTimer) }},
	{name: "limit_wait/peer-go-outer", run: func(n int) float64 { return limitWait(n, byOuterContext) }},
	{name: "limit_wait/peer-go-plain", run: func(n int) float64 { return limitWait(n, byNothing) }},
	{name: "defer/peer-go", run: deferOnce},
	{name: "scope_1/peer-go", run: func(n int) float64 { return scope(n, 1) }},
	{name: "scope_1/peer-go-join", run: func(n int) float64 { return scopeJoin(n, 1) }},
	{name: "scope_10/peer-go", run: func(n int) float64 { return scope(n, 10) }},
	{name: "scope_10/peer-go-join", run: func(n int) float64 { return scopeJoin(n, 10) }},
	{name: "scope_1000/peer-go", run: func(n int) float64 { return scope(n, 1000) }},
	{name: "scope_1000/peer-go-join", run: func(n int) float64 { return scopeJoin(n, 1000) }},
	{name: "cancel/peer-go", part: func(n int, clock *stopwatch) float64 { return endWaiters(n, true, clock) }},
	{name: "cancel/peer-go-send", part: func(n int, clock *stopwatch) float64 { return endWaiters(n, false, clock) }},
	{name: "cancel_scope/peer-go", part: cancelScope},
	{name: "growth_spawn_1000/peer-go", run: func(n int) float64 { return growthSpawn(n, 1000) }},
	{name: "growth_spawn_10000/peer-go", run: func(n int) float64 { return growthSpawn(n, 10000) }},
	{name: "growth_spawn_100000/peer-go", run: func(n int) float64 { return growthSpawn(n, 100000) }},
	{name: "growth_spawn_1000000/peer-go", run: func(n int) float64 { return growthSpawn(n, 1000000) }},
	{name: "growth_yield_1000/peer-go", part: func(n int, clock *stopwatch) float64 { return growthYield(n, 1000, clock) }},
	{name: "growth_yield_10000/peer-go", part: func(n int, clock *stopwatch) float64 { return growthYield(n, 10000, clock) }},
	{name: "growth_yield_100000/peer-go", part: func(n int, clock *stopwatch) float64 { return growthYield(n, 100000, clock) }},
	{name: "growth_yield_1000000/peer-go", part: func(n int, clock *stopwatch) float64 { return growthYield(n, 1000000, clock) }},
	{name: "growth_memory_1000/peer-go", once: func(r *result) { parked(r, 1000) }},
	{name: "growth_memory_10000/peer-go", once: func(r *result) { parked(r, 10000) }},
	{name: "growth_memory_100000/peer-go", once: func(r *result) { parked(r, 100000) }},
	{name: "sort/peer-go", once: func(r *result) { sortMany(r, false) }},
	{name: "sort/peer-go-serial", once: func(r *result) { sortMany(r, true) }},
	{name: "tree/peer-go", run: func(n int) float64 { return treeCoarse(n, false) }},
	{name: "tree/peer-go-serial", run: func(n int) float64 { return treeCoarse(n, true) }},
	{name: "tree_fine/peer-go", run: func(n int) float64 { return treeFine(n, false) }},
	{name: "tree_fine/peer-go-serial", run: func(n int) float64 { return treeFine(n, true) }},
}

func number(variable string, otherwise float64) float64 {
	if v, err := strconv.ParseFloat(os.Getenv(variable), 64); err == nil && v > 0 {
		return v
	}
	return otherwise
}

// Two goroutines a worker.
func yield(n int) float64 {
	count := 2 * runtime.GOMAXPROCS(0)
	each := (n + count - 1) / count
	var done sync.WaitGroup
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			for j := 0; j < each; j++ {
				runtime.Gosched()
			}
			done.Done()
		}()
	}
	done.Wait()
	return float64(each * count)
}

func goJoin(n int) float64 {
	var done sync.WaitGroup
	for i := 0; i < n; i++ {
		done.Add(1)
		go done.Done()
		done.Wait()
	}
	return float64(n)
}

func thousand(n int) float64 {
	var done sync.WaitGroup
	for i := 0; i < n; i++ {
		done.Add(1000)
		for j := 0; j < 1000; j++ {
			go done.Done()
		}
		done.Wait()
	}
	return float64(n)
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	var done sync.WaitGroup
	var a int
	done.Add(1)
	go func() {
		a = fib(n - 1)
		done.Done()
	}()
	b := fib(n - 2)
	done.Wait()
	return a + b
}

func fibs(n int) float64 {
	of := int(number("ROUTINES_BENCH_FIB", 30))
	next, after := 0, 1 // fib(of), fib(of + 1)
	for i := 0; i < of; i++ {
		next, after = after, next+after
	}
	for i := 0; i < n; i++ {
		if fib(of) != next {
			fail("the wrong Fibonacci number")
		}
	}
	goroutines := after - 1
	if goroutines < 1 {
		goroutines = 1
	}
	return float64(n * goroutines)
}

// A figure in kB out of a file of /proc, in bytes.
func procBytes(path, key string) float64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) >= 2 && fields[0] == key {
			kb, _ := strconv.ParseFloat(fields[1], 64)
			return kb * 1024
		}
	}
	return 0
}

// Makes the peak VmHWM what is resident now. Where the kernel cannot do it, this process has nothing to forget.
func forgetPeak() {
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

func memoryParked(r *result) {
	parked(r, math.MaxInt)
}

func parked(r *result, most int) {
	count := atMost(most)
	var arrived atomic.Int64
	var done sync.WaitGroup
	release := make(chan struct{})
	done.Add(count)
	resident := procBytes("/proc/self/smaps_rollup", "Rss:")
	tables := procBytes("/proc/self/status", "VmPTE:")
	begun := time.Now()
	for i := 0; i < count; i++ {
		go func() {
			arrived.Add(1)
			<-release
			done.Done()
		}()
	}
	for arrived.Load() < int64(count) {
		runtime.Gosched()
	}
	r.Value = float64(time.Since(begun).Nanoseconds()) / float64(count)
	r.Counters = map[string]float64{
		"count":                 float64(count),
		"bytes_each":            (procBytes("/proc/self/smaps_rollup", "Rss:") - resident) / float64(count),
		"page_table_bytes_each": (procBytes("/proc/self/status", "VmPTE:") - tables) / float64(count),
	}
	begun = time.Now()
	close(release)
	done.Wait()
	r.Counters["end_us_each"] = float64(time.Since(begun).Microseconds()) / float64(count)
}

// The CPU time of this process.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// What has passed between starts and stops.
type stopwatch struct {
	wall, cpu time.Duration
	cpuBegun  time.Duration
	begun     time.Time
}

func (s *stopwatch) start() {
	s.cpuBegun = cpuTime()
	s.begun = time.Now()
}

func (s *stopwatch) stop() {
	s.wall += time.Since(s.begun)
	s.cpu += cpuTime() - s.cpuBegun
}

// The CPUs that the process kept busy.
func (s *stopwatch) cpus() float64 {
	return s.cpu.Seconds() / s.wall.Seconds()
}

// Repeats until it takes long enough to be measured: that run counts, those before it warm up.
func measure(b *benchmark, r *result) {
	enough := time.Duration(number("ROUTINES_BENCH_SECONDS", 0.5) * float64(time.Second))
	for n := 1; ; {
		var clock stopwatch
		var ops float64
		if b.part != nil {
			ops = b.part(n, &clock)
		} else {
			clock.start()
			ops = b.run(n)
			clock.stop()
		}
		if clock.wall >= enough {
			r.Value = float64(clock.wall.Nanoseconds()) / ops
			r.Counters = map[string]float64{"cpus": clock.cpus()}
			return
		}
		if clock.wall < enough/20 {
			n *= 10
		} else {
			n = int(float64(n)*float64(enough)/float64(clock.wall)*1.2) + 1
		}
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "peer-go:", message)
	os.Exit(1)
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--list" {
		for _, b := range benchmarks {
			fmt.Println(b.name)
		}
		return
	}
	if len(os.Args) != 3 {
		fail("usage: peer --list | peer NAME WORKERS")
	}
	workers, err := strconv.Atoi(os.Args[2])
	if err != nil || workers < 1 {
		fail("WORKERS is a number from 1")
	}
	runtime.GOMAXPROCS(workers)
	for _, b := range benchmarks {
		if b.name != os.Args[1] {
			continue
		}
		r := result{Name: b.name, Workers: workers, Unit: "ns"}
		if b.once != nil {
			b.once(&r)
		} else {
			measure(&b, &r)
		}
		json.NewEncoder(os.Stdout).Encode(r)
		return
	}
	fail("no such benchmark: " + os.Args[1])
}

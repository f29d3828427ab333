// SPDX-License-Identifier: MIT
//
// Time, cancellation and structured concurrency: the same as sleepers.c, timers.c and scopes.c do.
package main

import (
	"context"
	"errors"
	"sync"
	"time"
)

type xorshift uint64

func (x *xorshift) next() uint64 {
	v := uint64(*x)
	v ^= v >> 12
	v ^= v << 25
	v ^= v >> 27
	*x = xorshift(v)
	return v * 2685821657736338717
}

func sleepers(r *result) {
	const shortest, longest = 10 * time.Millisecond, 1000 * time.Millisecond
	count := int(number("ROUTINES_BENCH_MILLION", 1000000)) / 10
	if count < 1 {
		count = 1
	}
	random := xorshift(0x9e3779b97f4a7c15)
	duration, late := make([]time.Duration, count), make([]time.Duration, count)
	for i := range duration {
		duration[i] = shortest + time.Duration(random.next()%uint64(longest-shortest+1))
		late[i] = -1
	}
	var done sync.WaitGroup
	done.Add(count)
	var clock stopwatch
	clock.start()
	for i := 0; i < count; i++ {
		go func(i int) {
			begun := time.Now()
			time.Sleep(duration[i])
			late[i] = time.Since(begun) - duration[i]
			done.Done()
		}(i)
	}
	done.Wait()
	clock.stop()
	var worst, sum time.Duration
	for _, by := range late {
		if by < 0 {
			fail("a sleeper was early")
		}
		if by > worst {
			worst = by
		}
		sum += by
	}
	r.Value = float64(clock.cpu.Nanoseconds()) / float64(count)
	r.Counters = map[string]float64{
		"wall_s":       clock.wall.Seconds(),
		"late_us":      float64(worst.Nanoseconds()) / 1e3,
		"late_mean_us": float64(sum.Nanoseconds()) / 1e3 / float64(count),
		"count":        float64(count),
		"cpus":         clock.cpus(),
	}
}

// ---- timers and limits ----

const delays = 1024

// An hour and up to another one.
func delay(random *xorshift) time.Duration {
	return time.Hour + time.Duration(random.next()%uint64(time.Hour))
}

func makeDelays() *[delays]time.Duration {
	random := xorshift(1)
	all := new([delays]time.Duration)
	for i := range all {
		all[i] = delay(&random)
	}
	return all
}

func fire() {
	fail("a timer fired")
}

var pending []*time.Timer

// Makes so many pending; they stay.
func letPend(count int) {
	random := xorshift(2)
	for len(pending) < count {
		pending = append(pending, time.AfterFunc(delay(&random), fire))
	}
}

func resetStop(n, count int, clock *stopwatch) float64 {
	letPend(count)
	delay := makeDelays()
	timer := time.AfterFunc(time.Hour, fire)
	timer.Stop()
	set, stopped := 0, 0
	clock.start()
	for i := 0; i < n; i++ {
		if !timer.Reset(delay[i%delays]) {
			set++
		}
		if timer.Stop() {
			stopped++
		}
	}
	clock.stop()
	if set != n || stopped != n {
		fail("a timer was pending when it should not have been")
	}
	return float64(n)
}

func resetStopMillion(n int, clock *stopwatch) float64 {
	return resetStop(n, int(number("ROUTINES_BENCH_MILLION", 1000000)), clock)
}

func newStop(n int) float64 {
	delay := makeDelays()
	for i := 0; i < n; i++ {
		if !time.AfterFunc(delay[i%delays], fire).Stop() {
			fail("a timer was not pending")
		}
	}
	return float64(n)
}

func limit(n int) float64 {
	for i := 0; i < n; i++ {
		_, cancel := context.WithTimeout(context.Background(), time.Hour)
		cancel()
	}
	return float64(n)
}

func limitDeadline(n int) float64 {
	at := time.Now().Add(time.Hour)
	for i := 0; i < n; i++ {
		_, cancel := context.WithDeadline(context.Background(), at)
		cancel()
	}
	return float64(n)
}

func receive(ctx context.Context, ch chan int) (int, error) {
	select {
	case value := <-ch:
		return value, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// The clock runs while messages are taken out of the full channel, not while it is filled.
func emptyIt(n int, limited bool, clock *stopwatch) float64 {
	const room = 1024
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	ch := make(chan int, room)
	for done := 0; done < n; {
		some := n - done
		if some > room {
			some = room
		}
		for i := 0; i < some; i++ {
			ch <- i
		}
		wrong := 0
		clock.start()
		for i := 0; i < some; i++ {
			value := -1
			if limited {
				value, _ = receive(ctx, ch)
			} else {
				value = <-ch
			}
			if value != i {
				wrong++
			}
		}
		clock.stop()
		if wrong != 0 {
			fail("the wrong message")
		}
		done += some
	}
	return float64(n)
}

type receiver func(ch chan int) (int, error)

// Each side has a way to receive of its own. It is always the receive that waits.
func limitWait(n int, newReceiver func() receiver) float64 {
	ping, pong := make(chan int, 1), make(chan int, 1)
	go func() {
		recv := newReceiver()
		for {
			ball, err := recv(ping)
			if err != nil || ball < 0 {
				break
			}
			pong <- ball + 1
		}
	}()
	recv := newReceiver()
	for i := 0; i < n; i++ {
		ping <- i
		if ball, err := recv(pong); err != nil || ball != i+1 {
			fail("the wrong ball came back")
		}
	}
	ping <- -1
	return float64(n)
}

// What one writes: a context for each.
func byContext() receiver {
	return func(ch chan int) (int, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		return receive(ctx, ch)
	}
}

// What one writes to be fast: a timer that is used again and again.
func byTimer() receiver {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return func(ch chan int) (int, error) {
		timer.Reset(time.Hour)
		select {
		case value := <-ch:
			timer.Stop()
			return value, nil
		case <-timer.C:
			return 0, context.DeadlineExceeded
		}
	}
}

func byOuterContext() receiver {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	_ = cancel // when the process ends
	return func(ch chan int) (int, error) {
		return receive(ctx, ch)
	}
}

func byNothing() receiver {
	return func(ch chan int) (int, error) {
		return <-ch, nil
	}
}

//go:noinline
func deferring(count *int) {
	defer func() { *count++ }()
}

func deferOnce(n int) float64 {
	count := 0
	for i := 0; i < n; i++ {
		deferring(&count)
	}
	if count != n {
		fail("a defer did not run")
	}
	return float64(n)
}

// ---- scopes and cancellation ----

// Like golang.org/x/sync/errgroup's: the first error cancels the others.
type group struct {
	wait   sync.WaitGroup
	first  sync.Once
	err    error
	cancel func()
}

func newGroup() (*group, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	return &group{cancel: cancel}, ctx
}

func (g *group) start(fn func() error) {
	g.wait.Add(1)
	go func() {
		defer g.wait.Done()
		if err := fn(); err != nil {
			g.first.Do(func() {
				g.err = err
				g.cancel()
			})
		}
	}()
}

func (g *group) join() error {
	g.wait.Wait()
	g.cancel()
	return g.err
}

func child() error {
	return nil
}

func scope(n, count int) float64 {
	for i := 0; i < n; i++ {
		g, _ := newGroup()
		for j := 0; j < count; j++ {
			g.start(child)
		}
		if g.join() != nil {
			fail("a child failed")
		}
	}
	return float64(n * count)
}

func scopeJoin(n, count int) float64 {
	for i := 0; i < n; i++ {
		var done sync.WaitGroup
		for j := 0; j < count; j++ {
			done.Add(1)
			go func() {
				child()
				done.Done()
			}()
		}
		done.Wait()
	}
	return float64(n * count)
}

// Until they wait: there is no asking, so they are given the time for it.
func letPark(arrived *sync.WaitGroup) {
	arrived.Wait()
	time.Sleep(time.Millisecond)
}

// Ends and joins goroutines that wait, a batch at a time: by a cancellation, or by a message.
func endWaiters(n int, canceling bool, clock *stopwatch) float64 {
	const thousand = 1000
	var ch [thousand]chan int
	var cancel [thousand]func()
	var done [thousand]chan error
	for i := range ch {
		ch[i] = make(chan int)
	}
	for did := 0; did < n; {
		some := n - did
		if some > thousand {
			some = thousand
		}
		var arrived sync.WaitGroup
		arrived.Add(some)
		for i := 0; i < some; i++ {
			var ctx context.Context
			ctx, cancel[i] = context.WithCancel(context.Background())
			done[i] = make(chan error, 1)
			go func(ctx context.Context, ch chan int, done chan error) {
				arrived.Done()
				_, err := receive(ctx, ch)
				done <- err
			}(ctx, ch[i], done[i])
		}
		letPark(&arrived)
		wrong := 0
		clock.start()
		for i := 0; i < some; i++ {
			if canceling {
				cancel[i]()
			} else {
				ch[i] <- 1
			}
			if err := <-done[i]; errors.Is(err, context.Canceled) != canceling {
				wrong++
			}
		}
		clock.stop()
		if wrong != 0 {
			fail("a wait did not end as it should have")
		}
		for i := 0; i < some; i++ {
			cancel[i]()
		}
		did += some
	}
	return float64(n)
}

func cancelScope(n int, clock *stopwatch) float64 {
	const thousand = 1000
	ch := make(chan int)
	for i := 0; i < n; i++ {
		g, ctx := newGroup()
		var arrived sync.WaitGroup
		arrived.Add(thousand)
		for j := 0; j < thousand; j++ {
			g.start(func() error {
				arrived.Done()
				_, err := receive(ctx, ch)
				return err
			})
		}
		letPark(&arrived)
		clock.start()
		g.cancel()
		err := g.join()
		clock.stop()
		if err != context.Canceled {
			fail("not all children were cancelled")
		}
	}
	return float64(n * thousand)
}

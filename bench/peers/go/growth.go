// SPDX-License-Identifier: MIT
//
// How a cost grows with the number of goroutines: the same as growth.c does. Where a routine waits for a oneshot a
// goroutine waits for a channel of its own, with room for one.
package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// So many, if that is allowed.
func atMost(count int) int {
	return min(count, int(number("ROUTINES_BENCH_MILLION", 1000000)))
}

func growthSpawn(n, most int) float64 {
	count := atMost(most)
	ch := make([]chan int, count)
	for i := range ch {
		ch[i] = make(chan int, 1)
	}
	for i := 0; i < n; i++ {
		var arrived, received atomic.Int64
		var done sync.WaitGroup
		done.Add(count)
		for j := range ch {
			go func() {
				arrived.Add(1)
				if <-ch[j] == j {
					received.Add(1)
				}
				done.Done()
			}()
		}
		for arrived.Load() < int64(count) {
			runtime.Gosched()
		}
		for j := range ch {
			ch[j] <- j
		}
		done.Wait()
		if received.Load() != int64(count) {
			fail("a goroutine did not receive what was sent")
		}
	}
	return float64(n) * float64(count)
}

func growthYield(n, most int, clock *stopwatch) float64 {
	const turns = 8
	count := atMost(most)
	var arrived, finished atomic.Int64
	var begun atomic.Bool
	var done sync.WaitGroup
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			arrived.Add(1)
			for !begun.Load() {
				runtime.Gosched()
			}
			for left := turns * n; left > 0; left-- {
				runtime.Gosched()
			}
			if finished.Add(1) == int64(count) {
				clock.stop()
			}
			done.Done()
		}()
	}
	for arrived.Load() < int64(count) {
		runtime.Gosched()
	}
	clock.start()
	begun.Store(true)
	done.Wait()
	return turns * float64(n) * float64(count)
}

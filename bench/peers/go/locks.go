// SPDX-License-Identifier: MIT
//
// Locks: the same as mutex.c and sync.c do.
package main

import "sync"

func mutex(n int) float64 {
	const thousand = 1000
	var lock sync.Mutex
	sum := 0
	for i := 0; i < n; i++ {
		var finished sync.WaitGroup
		finished.Add(thousand)
		for j := 0; j < thousand; j++ {
			go func() {
				for k := 0; k < thousand; k++ {
					lock.Lock()
					sum++
					lock.Unlock()
				}
				finished.Done()
			}()
		}
		finished.Wait()
	}
	if sum != n*thousand*thousand {
		fail("the wrong sum")
	}
	return float64(sum)
}

func mutexUncontended(n int) float64 {
	var lock sync.Mutex
	sum := 0
	for i := 0; i < n; i++ {
		lock.Lock()
		sum++
		lock.Unlock()
	}
	return float64(sum)
}

// Go's semaphore is a channel with room for the permits that are taken.
func semaphore(n int) float64 {
	permits := make(chan struct{}, 1)
	for i := 0; i < n; i++ {
		permits <- struct{}{}
		<-permits
	}
	return float64(n)
}

func readLock(n int) float64 {
	var lock sync.RWMutex
	for i := 0; i < n; i++ {
		lock.RLock()
		lock.RUnlock()
	}
	return float64(n)
}

func writeLock(n int) float64 {
	var lock sync.RWMutex
	for i := 0; i < n; i++ {
		lock.Lock()
		lock.Unlock()
	}
	return float64(n)
}

func waitGroup(n int) float64 {
	var group sync.WaitGroup
	for i := 0; i < n; i++ {
		group.Add(1)
		group.Done()
	}
	group.Wait()
	return float64(n)
}

func once(n int) float64 {
	var first sync.Once
	called := 0
	call := func() { called++ }
	first.Do(call)
	for i := 0; i < n; i++ {
		first.Do(call)
	}
	if called != 1 {
		fail("it was more than once")
	}
	return float64(n)
}

// SPDX-License-Identifier: MIT
//
// Channels and select: the same as skynet.c, ping_pong.c, buffered.c and select.c do.
package main

import (
	"reflect"
	"sync"
	"time"
)

func skynet(parent chan int, first, size, capacity int) {
	if size == 1 {
		parent <- first
		return
	}
	parts := make(chan int, capacity)
	for i := 0; i < 10; i++ {
		go skynet(parts, first+i*(size/10), size/10, capacity)
	}
	sum := 0
	for i := 0; i < 10; i++ {
		sum += <-parts
	}
	parent <- sum
}

func overChannels(capacity int) func(size int) int {
	return func(size int) int {
		root := make(chan int, capacity)
		go skynet(root, 0, size, capacity)
		return <-root
	}
}

func subtree(first, size int, sum *int, finished *sync.WaitGroup) {
	defer finished.Done()
	if size == 1 {
		*sum = first
		return
	}
	var parts [10]int
	var children sync.WaitGroup
	children.Add(10)
	for i := range parts {
		go subtree(first+i*(size/10), size/10, &parts[i], &children)
	}
	children.Wait()
	for _, part := range parts {
		*sum += part
	}
}

func skynetJoin(size int) int {
	var sum int
	var finished sync.WaitGroup
	finished.Add(1)
	go subtree(0, size, &sum, &finished)
	finished.Wait()
	return sum
}

func skynetOnce(r *result, tree func(size int) int) {
	most := int(number("ROUTINES_BENCH_MILLION", 1000000))
	size := 1
	for size <= most/10 {
		size *= 10
	}
	forgetPeak()
	before := procBytes("/proc/self/status", "VmHWM:")
	begun := time.Now()
	sum := tree(size)
	r.Value = float64(time.Since(begun).Nanoseconds())
	r.Counters = map[string]float64{
		"leaves":     float64(size),
		"peak_bytes": procBytes("/proc/self/status", "VmHWM:") - before,
	}
	if sum != size*(size-1)/2 {
		fail("the wrong sum")
	}
}

func pingPong(n int) float64 {
	ping, pong := make(chan int), make(chan int)
	go func() {
		for ball := range ping {
			pong <- ball + 1
		}
	}()
	for i := 0; i < n; i++ {
		ping <- i
		if <-pong != i+1 {
			fail("the wrong ball came back")
		}
	}
	close(ping)
	return float64(n)
}

// The i-th of count goroutines sends this many numbers, from the first one on.
func share(n, i, count int) (first, many int) {
	first = n / count * i
	extra := n % count
	if i < extra {
		return first + i, n/count + 1
	}
	return first + extra, n / count
}

func buffered(n, each int) float64 {
	ch := make(chan int, 128)
	counts, sums := make([]int, each), make([]int, each)
	var producers, consumers sync.WaitGroup
	producers.Add(each)
	consumers.Add(each)
	for i := 0; i < each; i++ {
		go func(i int) {
			count, sum := 0, 0
			for value := range ch {
				count++
				sum += value
			}
			counts[i], sums[i] = count, sum
			consumers.Done()
		}(i)
		go func(i int) {
			first, many := share(n, i, each)
			for value := first; value < first+many; value++ {
				ch <- value
			}
			producers.Done()
		}(i)
	}
	producers.Wait()
	close(ch)
	consumers.Wait()
	count, sum := 0, 0
	for i := range counts {
		count += counts[i]
		sum += sums[i]
	}
	if count != n || sum != n*(n-1)/2 {
		fail("what was received is not what was sent")
	}
	return float64(n)
}

func selectFour(n int) float64 {
	var ch [4]chan int
	for i := range ch {
		ch[i] = make(chan int)
	}
	for i := range ch {
		go func(i int) {
			first, many := share(n, i, len(ch))
			for value := first; value < first+many; value++ {
				ch[i] <- value
			}
		}(i)
	}
	a, b, c, d := ch[0], ch[1], ch[2], ch[3]
	sum := 0
	for i := 0; i < n; i++ {
		select {
		case value := <-a:
			sum += value
		case value := <-b:
			sum += value
		case value := <-c:
			sum += value
		case value := <-d:
			sum += value
		}
	}
	if sum != n*(n-1)/2 {
		fail("what was received is not what was sent")
	}
	return float64(n)
}

// Channels that are ready: each holds its own number.
func filled(count int) []chan int {
	ch := make([]chan int, count)
	for i := range ch {
		ch[i] = make(chan int, 1)
		ch[i] <- i
	}
	return ch
}

func selectReady4(n int) float64 {
	ch := filled(4)
	a, b, c, d := ch[0], ch[1], ch[2], ch[3]
	for i := 0; i < n; i++ {
		chosen, value := 0, 0
		select {
		case value = <-a:
			chosen = 0
		case value = <-b:
			chosen = 1
		case value = <-c:
			chosen = 2
		case value = <-d:
			chosen = 3
		}
		if value != chosen {
			fail("a select chose the wrong channel")
		}
		ch[chosen] <- value
	}
	return float64(n)
}

// Go's only way to select among as many cases as are known at run time: by reflection.
func selectReady(n, count int) float64 {
	ch := filled(count)
	cases := make([]reflect.SelectCase, count)
	for i := range cases {
		cases[i] = reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ch[i])}
	}
	for i := 0; i < n; i++ {
		chosen, value, _ := reflect.Select(cases)
		if int(value.Int()) != chosen {
			fail("a select chose the wrong channel")
		}
		ch[chosen] <- chosen
	}
	return float64(n)
}

// SPDX-License-Identifier: MIT
//
// What looks like real work: the same as sort.c and tree.c do. The "-serial" ones are the same
// code with calls instead of goroutines: they tell the compiler's part from the scheduler's.
package main

import (
	"math"
	"sync"
	"time"
)

const golden = 0x9E3779B97F4A7C15

// The last step of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// ---- sort ----

const (
	sortLeaf      = 2048
	mergeGrain    = 4096
	sortInsertion = 24
)

func median(x, y, z int32) int32 {
	low, high := min(x, y), max(x, y)
	return max(low, min(z, high))
}

// Hoare's quicksort.
func sortOne(a []int32) {
	for len(a) > sortInsertion {
		pivot := median(a[0], a[len(a)/2], a[len(a)-1])
		i, j := -1, len(a)
		for {
			for i++; a[i] < pivot; i++ {
			}
			for j--; a[j] > pivot; j-- {
			}
			if i >= j {
				break
			}
			a[i], a[j] = a[j], a[i]
		}
		sortOne(a[:j+1])
		a = a[j+1:]
	}
	for i := 1; i < len(a); i++ {
		value := a[i]
		j := i
		for ; j > 0 && a[j-1] > value; j-- {
			a[j] = a[j-1]
		}
		a[j] = value
	}
}

// Which of the two is the smaller is as good as random: no branch on it.
func mergeOne(x, y, out []int32) {
	i, j, k := 0, 0, 0
	for i < len(x) && j < len(y) {
		v, w := x[i], y[j]
		take := 0
		if w < v {
			take = 1
		}
		out[k] = min(v, w)
		k++
		j += take
		i += 1 - take
	}
	k += copy(out[k:], x[i:])
	copy(out[k:], y[j:])
}

// How many of y are less than the value.
func lowerBound(y []int32, value int32) int {
	low, high := 0, len(y)
	for low < high {
		middle := low + (high-low)/2
		if y[middle] < value {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// Two calls, one of them in a goroutine; or one after the other.
func both(serial bool, first, second func()) {
	if serial {
		first()
		second()
		return
	}
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		first()
		done.Done()
	}()
	second()
	done.Wait()
}

func mergeInto(x, y, out []int32, serial bool) {
	if len(x)+len(y) <= mergeGrain {
		mergeOne(x, y, out)
		return
	}
	if len(x) < len(y) {
		mergeInto(y, x, out, serial)
		return
	}
	i := len(x) / 2
	j := lowerBound(y, x[i])
	both(serial,
		func() { mergeInto(x[:i], y[:j], out[:i+j], serial) },
		func() { mergeInto(x[i:], y[j:], out[i+j:], serial) })
}

// The result is to be in t, or in a; the other one is scratch.
func sortInto(a, t []int32, inT, serial bool) {
	if len(a) <= sortLeaf {
		sortOne(a)
		if inT {
			copy(t, a)
		}
		return
	}
	half := len(a) / 2
	both(serial,
		func() { sortInto(a[:half], t[:half], !inT, serial) },
		func() { sortInto(a[half:], t[half:], !inT, serial) })
	if inT {
		mergeInto(a[:half], a[half:], t, serial)
	} else {
		mergeInto(t[:half], t[half:], a, serial)
	}
}

func sortMany(r *result, serial bool) {
	const usual = 20000000
	n := int(number("ROUTINES_BENCH_SORT", usual))
	a, t := make([]int32, n), make([]int32, n)
	sum := uint64(0)
	for i := range a {
		a[i] = int32(uint32(mix(uint64(i+1)*golden) >> 32))
		t[i] = -1
		sum += mix(uint64(uint32(a[i])))
	}
	begun := time.Now()
	sortInto(a, t, false, serial)
	r.Value = float64(time.Since(begun).Nanoseconds())
	r.Counters = map[string]float64{"count": float64(n)}
	placed, before := uint64(0), int32(math.MinInt32)
	for i, value := range a {
		if value < before {
			fail("not in order")
		}
		before = value
		placed += uint64(i+1) * uint64(uint32(value))
		sum -= mix(uint64(uint32(value)))
	}
	if sum != 0 || n == usual && placed != 0x9C9FE4E033157074 {
		fail("not the numbers that were to be sorted")
	}
}

// ---- tree ----

const (
	treeChildren = 8
	treeInner    = 536334041 // of 2^32 nodes so many have children
)

type tree struct {
	seed, nodes uint64
	visit       func(number uint64) uint64
}

// From the root, who has a number of children of its own.
func (t *tree) search(children int) uint64 {
	var done sync.WaitGroup
	done.Add(children)
	below := make([]uint64, children)
	for i := range below {
		go func() {
			below[i] = t.visit(t.seed<<32 + uint64(i))
			done.Done()
		}()
	}
	done.Wait()
	nodes := uint64(1)
	for _, n := range below {
		nodes += n
	}
	return nodes
}

func visitChildren(number uint64, visit func(number uint64) uint64) uint64 {
	var below [treeChildren]uint64
	var done sync.WaitGroup
	done.Add(treeChildren)
	for i := range below {
		go func() {
			below[i] = visit(number + uint64(i))
			done.Done()
		}()
	}
	done.Wait()
	nodes := uint64(1)
	for _, n := range below {
		nodes += n
	}
	return nodes
}

func hashed(number uint64) uint64 {
	for i := 0; i < 24; i++ {
		number = mix(number + golden)
	}
	return number
}

func visit(number uint64) uint64 {
	number = hashed(number)
	if number>>32 >= treeInner {
		return 1
	}
	return visitChildren(number, visit)
}

func visitFine(number uint64) uint64 {
	number = mix(number + golden)
	if number>>32 >= treeInner {
		return 1
	}
	return visitChildren(number, visitFine)
}

func visitSerially(number uint64) uint64 {
	number = hashed(number)
	nodes := uint64(1)
	if number>>32 < treeInner {
		for i := uint64(0); i < treeChildren; i++ {
			nodes += visitSerially(number + i)
		}
	}
	return nodes
}

func visitFineSerially(number uint64) uint64 {
	number = mix(number + golden)
	nodes := uint64(1)
	if number>>32 < treeInner {
		for i := uint64(0); i < treeChildren; i++ {
			nodes += visitFineSerially(number + i)
		}
	}
	return nodes
}

func (t *tree) searchSerially(children int) uint64 {
	nodes := uint64(1)
	for i := 0; i < children; i++ {
		nodes += t.visit(t.seed<<32 + uint64(i))
	}
	return nodes
}

func trees(n int, t tree, serially func(uint64) uint64, serial bool) float64 {
	children := int(number("ROUTINES_BENCH_TREE", 2000))
	if children != 2000 {
		other := tree{seed: t.seed, visit: serially}
		t.nodes = other.searchSerially(children)
	}
	search := t.search
	if serial {
		t.visit = serially
		search = t.searchSerially
	}
	for i := 0; i < n; i++ {
		if search(children) != t.nodes {
			fail("the wrong number of nodes")
		}
	}
	return float64(n) * float64(t.nodes)
}

func treeCoarse(n int, serial bool) float64 {
	return trees(n, tree{1, 3543105, visit}, visitSerially, serial)
}

func treeFine(n int, serial bool) float64 {
	return trees(n, tree{3, 3676273, visitFine}, visitFineSerially, serial)
}

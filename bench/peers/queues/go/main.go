// Items through a channel between goroutines on several processors: what bench/shared_queue.cpp does, in Go.
//
// Usage: queues PRODUCERS CONSUMERS BYTES CAPACITY ITEMS THREADS [apart]
// apart: the producer and the consumer are locked to a thread each.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func measure[T any](producers, consumers, capacity, each int, apart bool, make_ func(int) T, value func(T) uint64) {
	channel := make(chan T, capacity)
	var producing, consuming sync.WaitGroup
	sums := make([]uint64, consumers)
	start := time.Now()
	for p := 0; p < producers; p++ {
		producing.Add(1)
		go func() {
			if apart {
				runtime.LockOSThread()
			}
			for i := 0; i < each; i++ {
				channel <- make_(i)
			}
			producing.Done()
		}()
	}
	for c := 0; c < consumers; c++ {
		consuming.Add(1)
		go func(sum *uint64) {
			if apart {
				runtime.LockOSThread()
			}
			mine := uint64(0)
			for item := range channel {
				mine += value(item)
			}
			*sum = mine
			consuming.Done()
		}(&sums[c])
	}
	producing.Wait()
	close(channel)
	consuming.Wait()
	seconds := time.Since(start).Seconds()
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	cpu := float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
	total, expected := uint64(0), uint64(0)
	for _, sum := range sums {
		total += sum
	}
	for i := 0; i < each; i++ {
		expected += value(make_(i))
	}
	if total != expected*uint64(producers) {
		fmt.Fprintln(os.Stderr, "the items were not all passed on")
		os.Exit(1)
	}
	fmt.Printf("{\"operations\": %d, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", each*producers, seconds, cpu)
}

func main() {
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(os.Args[i+1])
	}
	producers, consumers, bytes, capacity, items := n[0], n[1], n[2], n[3], n[4]
	runtime.GOMAXPROCS(n[5])
	each := items / producers
	apart := len(os.Args) > 7 && os.Args[7] == "apart"
	if bytes == 8 {
		measure(producers, consumers, capacity, each, apart, func(i int) uint64 { return uint64(i) }, func(v uint64) uint64 { return v })
	} else {
		measure(producers, consumers, capacity, each, apart, func(i int) []byte {
			item := make([]byte, bytes)
			for k := range item {
				item[k] = 0
			}
			item[bytes-1] = byte(i)
			return item
		}, func(v []byte) uint64 { return uint64(v[len(v)-1]) })
	}
}

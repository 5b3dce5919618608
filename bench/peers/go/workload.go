// The workloads of bench/workloads.hpp in Go, on one processor (GOMAXPROCS=1, which compare.py sets).
//
// Usage: workload NAME OPERATIONS [FILE]
// Prints one JSON line, and fails if the work was not really done. See ../../README.md.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func require(done bool) {
	if !done {
		fmt.Fprintln(os.Stderr, "the workload has not done its work")
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// What a workload has to say beside its time.
type found struct {
	bytesPerTask float64
	more         string
	started      time.Time // if the time counts from here on, and the processor time until then
	startedCPU   float64
}

// ---- W1 spawn and join, batches of 1,000

func spawnJoin(operations int) found {
	sum := 0
	var results [1000]int
	for done := 0; done < operations; done += 1000 {
		var all sync.WaitGroup
		all.Add(1000)
		for i := 0; i < 1000; i++ {
			i := i
			go func() {
				results[i] = i
				all.Done()
			}()
		}
		all.Wait()
		for i := range results {
			sum += results[i]
			results[i] = 0
		}
	}
	require(sum == operations/1000*499500)
	return found{}
}

// ---- W2 cooperative yield, two goroutines

func yields(operations int) found {
	var all sync.WaitGroup
	var counts [2]int
	for task := range counts {
		all.Add(1)
		go func(count *int) {
			for i := 0; i < operations/2; i++ {
				runtime.Gosched()
				*count++
			}
			all.Done()
		}(&counts[task])
	}
	all.Wait()
	require(counts[0]+counts[1] == operations/2*2)
	return found{}
}

// ---- W3 ping-pong, a round trip

func pingPong(operations int) found {
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for range ping {
			pong <- struct{}{}
		}
		close(pong)
	}()
	for i := 0; i < operations; i++ {
		ping <- struct{}{}
		<-pong
	}
	close(ping)
	_, open := <-pong
	require(!open)
	return found{}
}

// ---- W4 a channel of 10, one producer, four consumers

func pipeline(operations int) found {
	queue := make(chan int, 10)
	var all sync.WaitGroup
	var sums [4]int
	for c := range sums {
		all.Add(1)
		go func(sum *int) {
			for item := range queue {
				*sum += item
			}
			all.Done()
		}(&sums[c])
	}
	for i := 0; i < operations; i++ {
		queue <- i
	}
	close(queue)
	all.Wait()
	require(sums[0]+sums[1]+sums[2]+sums[3] == operations*(operations-1)/2)
	return found{}
}

// ---- W5 lock, 100 goroutines, a yield inside

func lockContention(operations int) found {
	var all sync.WaitGroup
	var lock sync.Mutex
	count := 0
	for task := 0; task < 100; task++ {
		all.Add(1)
		go func() {
			for i := 0; i < operations/100; i++ {
				lock.Lock()
				before := count
				runtime.Gosched()
				count = before + 1
				lock.Unlock()
			}
			all.Done()
		}()
	}
	all.Wait()
	require(count == operations/100*100)
	return found{}
}

// ---- W6a many sleeping goroutines

func residentBytes() int {
	text, err := os.ReadFile("/proc/self/statm")
	check(err)
	var size, resident int
	_, err = fmt.Sscan(string(text), &size, &resident)
	check(err)
	return resident * os.Getpagesize()
}

func sleepers(operations int) found {
	before := residentBytes()
	var all sync.WaitGroup
	all.Add(operations)
	var started int64
	for i := 0; i < operations; i++ {
		go func() {
			atomic.AddInt64(&started, 1)
			time.Sleep(time.Second)
			all.Done()
		}()
	}
	for atomic.LoadInt64(&started) < int64(operations) {
		runtime.Gosched()
	}
	bytes := float64(residentBytes()-before) / float64(operations)
	all.Wait()
	return found{bytesPerTask: bytes}
}

// ---- W6b a timeout that never fires, around one yield

func timeouts(operations int) found {
	parent := context.Background()
	for i := 0; i < operations; i++ {
		ctx, cancel := context.WithTimeout(parent, 10*time.Second)
		runtime.Gosched()
		require(ctx.Err() == nil)
		cancel()
	}
	return found{}
}

// ---- W7 nested await: a call, which is all it takes in Go

//go:noinline
func give(n int) int { return n }

func nested(operations int) found {
	sum := 0
	for i := 0; i < operations; i++ {
		sum += give(i)
	}
	require(sum == operations*(operations-1)/2)
	return found{}
}

// ---- W7r nested calls, 100 deep, by recursion

func depth(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + depth(n-1)
}

func recursion(operations int) found {
	sum := 0
	for i := 0; i < operations/100; i++ {
		sum += depth(99)
	}
	require(sum == operations/100*99)
	return found{}
}

// ---- W8 a generator: a goroutine and a channel. Buffered, because that is faster; so it runs ahead of its consumer.

func countTo(n int) <-chan int {
	out := make(chan int, 128)
	go func() {
		defer close(out)
		for i := 0; i < n; i++ {
			out <- i
		}
	}()
	return out
}

func generate(operations int) found {
	sum := 0
	for i := range countTo(operations) {
		sum += i
	}
	require(sum == operations*(operations-1)/2)
	return found{}
}

// ---- W10 TCP echo: 100 connections, 64 bytes there and back, both ends in this process

func echo(operations int) found {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer client.Close()
				block := make([]byte, 4096)
				for {
					n, err := client.Read(block)
					if err != nil {
						return
					}
					if _, err = client.Write(block[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	var all sync.WaitGroup
	var counts [100]int
	for c := range counts {
		all.Add(1)
		go func(count *int) {
			defer all.Done()
			server, err := net.Dial("tcp", listener.Addr().String())
			check(err)
			defer server.Close()
			message, answer := make([]byte, 64), make([]byte, 64)
			for i := 0; i < operations/100; i++ {
				_, err = server.Write(message)
				check(err)
				_, err = io.ReadFull(server, answer)
				check(err)
				*count++
			}
		}(&counts[c])
	}
	all.Wait()
	listener.Close()
	sum := 0
	for _, count := range counts {
		sum += count
	}
	require(sum == operations/100*100)
	return found{}
}

// ---- W10t the same over TLS. The handshakes are done before the time counts

func secureEcho(operations int, folder string) found {
	own, err := tls.LoadX509KeyPair(folder+"/cert.pem", folder+"/key.pem")
	check(err)
	pem, err := os.ReadFile(folder + "/cert.pem")
	check(err)
	trusted := x509.NewCertPool()
	require(trusted.AppendCertsFromPEM(pem))
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	check(err)
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer client.Close()
				block := make([]byte, 4096)
				for {
					n, err := client.Read(block)
					if err != nil {
						return
					}
					if _, err = client.Write(block[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	var servers [100]*tls.Conn
	for c := range servers {
		servers[c], err = tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: trusted, ServerName: "localhost"})
		check(err)
	}
	result := found{started: time.Now(), startedCPU: cpuSeconds()}
	var all sync.WaitGroup
	var counts [100]int
	for c := range counts {
		all.Add(1)
		go func(server *tls.Conn, count *int) {
			defer all.Done()
			defer server.Close()
			message, answer := make([]byte, 64), make([]byte, 64)
			for i := 0; i < operations/100; i++ {
				_, err := server.Write(message)
				check(err)
				_, err = io.ReadFull(server, answer)
				check(err)
				*count++
			}
		}(servers[c], &counts[c])
	}
	all.Wait()
	listener.Close()
	sum := 0
	for _, count := range counts {
		sum += count
	}
	require(sum == operations)
	return result
}

// ---- W11 start a sleeping goroutine, cancel it, join it

func sleepContext(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func cancellations(operations int) found {
	cancelled := 0
	joined := make(chan error)
	for i := 0; i < operations; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { joined <- sleepContext(ctx, time.Second) }()
		runtime.Gosched()
		cancel()
		if <-joined == context.Canceled {
			cancelled++
		}
	}
	require(cancelled == operations)
	return found{}
}

// ---- W12 the lines of a large file

func lines(operations int, path string) found {
	file, err := os.Open(path)
	check(err)
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, 256*1024), 256*1024)
	count, bytes := 0, 0
	for scanner.Scan() {
		count++
		bytes += len(scanner.Bytes()) + 1
	}
	check(scanner.Err())
	require(count == operations)
	return found{more: fmt.Sprintf(`, "bytes": %d`, bytes)}
}

// ---- tail: 10,000 goroutines that work a little and yield, and one that is woken every millisecond

func tail(milliseconds int) found {
	var all sync.WaitGroup
	stop := false // one processor: set and read between yields
	var counts [10000]int
	for c := range counts {
		all.Add(1)
		go func(count *int) {
			x := uint64(1)
			for !stop {
				for i := 0; i < 4; i++ {
					x ^= x << 13
					x ^= x >> 7
					x ^= x << 17
				}
				*count++
				runtime.Gosched()
			}
			require(x != 0)
			all.Done()
		}(&counts[c])
	}
	runtime.Gosched()
	var late []float64
	end := time.Now().Add(time.Duration(milliseconds) * time.Millisecond)
	for now := time.Now(); now.Before(end); {
		due := time.Now().Add(time.Millisecond)
		time.Sleep(time.Millisecond)
		now = time.Now()
		late = append(late, float64(now.Sub(due).Nanoseconds())/1e3)
	}
	stop = true
	all.Wait()
	yields := 0
	for _, count := range counts {
		yields += count
	}
	require(yields >= len(counts))
	sort.Float64s(late)
	at := func(share float64) float64 {
		i := int(float64(len(late)) * share)
		if i >= len(late) {
			i = len(late) - 1
		}
		return late[i]
	}
	return found{more: fmt.Sprintf(`, "ticks": %d, "yields": %d, "p50_us": %.1f, "p99_us": %.1f, "p999_us": %.1f, "max_us": %.1f`,
		len(late), yields, at(0.5), at(0.99), at(0.999), late[len(late)-1])}
}

// ---- one of them

var workloads = map[string]struct {
	run      func(operations int) found
	multiple int
}{
	"W1": {spawnJoin, 1000}, "W2": {yields, 2}, "W3": {pingPong, 1}, "W4": {pipeline, 1}, "W5": {lockContention, 100},
	"W6a": {sleepers, 1}, "W6b": {timeouts, 1}, "W7": {nested, 1}, "W7r": {recursion, 100}, "W8": {generate, 1}, "W10": {echo, 100},
	"W11": {cancellations, 1}, "tail": {tail, 1},
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	usage := func() {
		fmt.Fprintln(os.Stderr, "usage: workload NAME OPERATIONS [FILE]")
		os.Exit(2)
	}
	if len(os.Args) != 3 && len(os.Args) != 4 {
		usage()
	}
	name := os.Args[1]
	operations, err := strconv.Atoi(os.Args[2])
	check(err)
	if name == "W9" {
		fmt.Fprintln(os.Stderr, "Go has no thread pool to hand a call to: it runs blocking calls on threads by itself")
		os.Exit(3)
	}
	chosen, known := workloads[name]
	if name == "W12" && len(os.Args) == 4 {
		chosen.run, chosen.multiple = func(n int) found { return lines(n, os.Args[3]) }, 1
	} else if name == "W10t" && len(os.Args) == 4 {
		chosen.run, chosen.multiple = func(n int) found { return secureEcho(n, os.Args[3]) }, 100
	} else if !known || len(os.Args) != 3 {
		usage()
	}
	operations = operations / chosen.multiple * chosen.multiple
	cpu, start := cpuSeconds(), time.Now()
	result := chosen.run(operations)
	if !result.started.IsZero() {
		cpu, start = result.startedCPU, result.started
	}
	wall := time.Since(start).Seconds()
	cpu = cpuSeconds() - cpu
	fmt.Printf("{\"workload\": \"%s\", \"operations\": %d, \"seconds\": %.9f, \"cpu_seconds\": %.6f, \"bytes_per_task\": %.1f%s}\n",
		name, operations, wall, cpu, result.bytesPerTask, result.more)
}

// W13 of bench/io_workload.cpp in Go with net/http, on one processor (GOMAXPROCS=1, which compare.py sets).
//
// Usage: workload W13 OPERATIONS ADDRESS
// Prints one JSON line, and fails if the work was not really done. See ../../../README.md.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
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

func cpuSeconds() float64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func getOften(client *http.Client, url string, times int) int {
	bytes := 0
	for i := 0; i < times; i++ {
		response, err := client.Get(url)
		check(err)
		body, err := io.ReadAll(response.Body)
		check(err)
		response.Body.Close()
		require(response.StatusCode == 200)
		bytes += len(body)
	}
	return bytes
}

// 100 goroutines
func getAll(client *http.Client, url string, operations int) {
	var all sync.WaitGroup
	var sizes [100]int
	for i := range sizes {
		all.Add(1)
		go func(size *int) {
			*size = getOften(client, url, operations/100)
			all.Done()
		}(&sizes[i])
	}
	all.Wait()
	bytes := 0
	for _, size := range sizes {
		bytes += size
	}
	require(bytes == operations*1024)
}

func main() {
	if len(os.Args) != 4 || os.Args[1] != "W13" {
		fmt.Fprintln(os.Stderr, "usage: workload W13 OPERATIONS ADDRESS")
		os.Exit(2)
	}
	operations, err := strconv.Atoi(os.Args[2])
	check(err)
	operations = operations / 100 * 100
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConns: 100, MaxIdleConnsPerHost: 100, MaxConnsPerHost: 100, DisableCompression: true,
	}}
	getAll(client, os.Args[3], 100) // connects
	cpu, start := cpuSeconds(), time.Now()
	getAll(client, os.Args[3], operations)
	wall := time.Since(start).Seconds()
	cpu = cpuSeconds() - cpu
	fmt.Printf("{\"workload\": \"W13\", \"operations\": %d, \"seconds\": %.9f, \"cpu_seconds\": %.6f}\n", operations, wall, cpu)
}

// W14 of bench/io_workload.cpp in Go with pgx and its pool, which is faster than database/sql, on one processor (GOMAXPROCS=1, which
// compare.py sets). pgx prepares each statement once a connection.
//
// Usage: workload W14 OPERATIONS ADDRESS
// Prints one JSON line, and fails if the work was not really done. See ../../../README.md.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v4/pgxpool"
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

func queryOften(ctx context.Context, connection *pgxpool.Conn, times int) int {
	sum := 0
	for i := 0; i < times; i++ {
		var n int
		check(connection.QueryRow(ctx, "SELECT $1::int", i).Scan(&n))
		sum += n
	}
	return sum
}

func main() {
	if len(os.Args) != 4 || os.Args[1] != "W14" {
		fmt.Fprintln(os.Stderr, "usage: workload W14 OPERATIONS ADDRESS")
		os.Exit(2)
	}
	operations, err := strconv.Atoi(os.Args[2])
	check(err)
	operations = operations / 100 * 100
	each := operations / 10

	ctx := context.Background()
	settings, err := pgxpool.ParseConfig(os.Args[3])
	check(err)
	settings.MaxConns = 10
	pool, err := pgxpool.ConnectConfig(ctx, settings)
	check(err)
	var connections [10]*pgxpool.Conn
	for i := range connections {
		connections[i], err = pool.Acquire(ctx)
		check(err)
		queryOften(ctx, connections[i], 1) // prepares
	}

	var all sync.WaitGroup
	var sums [10]int
	cpu, start := cpuSeconds(), time.Now()
	for i := range connections {
		all.Add(1)
		go func(connection *pgxpool.Conn, sum *int) {
			*sum = queryOften(ctx, connection, each)
			all.Done()
		}(connections[i], &sums[i])
	}
	all.Wait()
	wall := time.Since(start).Seconds()
	cpu = cpuSeconds() - cpu
	for i, sum := range sums {
		require(sum == each*(each-1)/2)
		connections[i].Release()
	}
	pool.Close()
	fmt.Printf("{\"workload\": \"W14\", \"operations\": %d, \"seconds\": %.9f, \"cpu_seconds\": %.6f}\n", operations, wall, cpu)
}

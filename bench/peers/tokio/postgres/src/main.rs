//! W14 of bench/io_workload.cpp with tokio-postgres, on tokio's current-thread runtime.
//!
//! Usage: postgres_workload W14 OPERATIONS ADDRESS
//! Prints one JSON line, and fails if the work was not really done. See ../../../../README.md.

use std::time::Instant;
use tokio::task::spawn;
use tokio_postgres::{Client, NoTls, Statement};

fn require(done: bool) {
    if !done {
        eprintln!("the workload has not done its work");
        std::process::exit(1);
    }
}

fn cpu_seconds() -> f64 {
    #[repr(C)]
    struct Timespec {
        seconds: i64,
        nanoseconds: i64,
    }
    extern "C" {
        fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
    }
    const CLOCK_PROCESS_CPUTIME_ID: i32 = 2;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 * 1e-9
}

async fn query_often(client: Client, statement: Statement, times: usize) -> usize {
    let mut sum = 0;
    for i in 0..times as i32 {
        let row = client.query_one(&statement, &[&i]).await.unwrap();
        sum += row.get::<_, i32>(0) as usize;
    }
    sum
}

async fn queries(operations: usize, url: String) {
    let each = operations / 10;
    let mut connections = Vec::new();
    for _ in 0..10 {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        spawn(connection);
        let statement = client.prepare("SELECT $1::int").await.unwrap();
        connections.push((client, statement));
    }
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let tasks: Vec<_> =
        connections.into_iter().map(|(client, statement)| spawn(query_often(client, statement, each))).collect();
    for task in tasks {
        require(task.await.unwrap() == each * (each - 1) / 2);
    }
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    println!("{{\"workload\": \"W14\", \"operations\": {operations}, \"seconds\": {wall:.9}, \"cpu_seconds\": {cpu:.9}}}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 4 || arguments[1] != "W14" {
        eprintln!("usage: postgres_workload W14 OPERATIONS ADDRESS");
        std::process::exit(2);
    }
    let operations = arguments[2].parse::<usize>().unwrap() / 100 * 100;
    let url = arguments[3].clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { spawn(queries(operations, url)).await.unwrap() });
}

//! W13 of bench/io_workload.cpp with hyper, on tokio's current-thread runtime.
//!
//! Usage: http_workload W13 OPERATIONS ADDRESS
//! Prints one JSON line, and fails if the work was not really done. See ../../../../README.md.

use hyper::client::HttpConnector;
use hyper::{Client, Uri};
use std::time::Instant;
use tokio::task::spawn;

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

async fn get_often(client: Client<HttpConnector>, url: Uri, times: usize) -> usize {
    let mut bytes = 0;
    for _ in 0..times {
        let response = client.get(url.clone()).await.unwrap();
        require(response.status() == 200);
        bytes += hyper::body::to_bytes(response.into_body()).await.unwrap().len();
    }
    bytes
}

/// 100 tasks.
async fn get_all(client: &Client<HttpConnector>, url: &Uri, operations: usize) {
    let tasks: Vec<_> =
        (0..100).map(|_| spawn(get_often(client.clone(), url.clone(), operations / 100))).collect();
    let mut bytes = 0;
    for task in tasks {
        bytes += task.await.unwrap();
    }
    require(bytes == operations * 1024);
}

async fn gets(operations: usize, url: Uri) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder().pool_max_idle_per_host(100).build(connector);
    get_all(&client, &url, 100).await; // connects
    let (cpu, start) = (cpu_seconds(), Instant::now());
    get_all(&client, &url, operations).await;
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    println!("{{\"workload\": \"W13\", \"operations\": {operations}, \"seconds\": {wall:.9}, \"cpu_seconds\": {cpu:.9}}}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 4 || arguments[1] != "W13" {
        eprintln!("usage: http_workload W13 OPERATIONS ADDRESS");
        std::process::exit(2);
    }
    let operations = arguments[2].parse::<usize>().unwrap() / 100 * 100;
    let url = arguments[3].parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { spawn(gets(operations, url)).await.unwrap() });
}

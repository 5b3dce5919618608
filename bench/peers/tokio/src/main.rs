//! The workloads of bench/workloads.hpp in tokio, on its current-thread runtime.
//!
//! Usage: workload NAME OPERATIONS [FILE]
//! Prints one JSON line, and fails if the work was not really done. See ../../../README.md.

use futures_util::stream::{self, Stream, StreamExt};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::{spawn, yield_now};
use tokio::time::{sleep, timeout};

fn require(done: bool) {
    if !done {
        eprintln!("the workload has not done its work");
        std::process::exit(1);
    }
}

/// What a workload has to say beside its time.
#[derive(Default)]
struct Found {
    bytes_per_task: f64,
    more: String,
    started: Option<(f64, Instant)>, // the time counts from here on
}

/// The same number, but the optimiser does not know.
fn opaque(n: usize) -> usize {
    unsafe { std::ptr::read_volatile(&n) }
}

// ---- W1 spawn and join, batches of 1,000

async fn give(n: usize) -> usize {
    n
}

async fn spawn_join(operations: usize) -> Found {
    let mut sum = 0;
    let mut batch = Vec::with_capacity(1000);
    for _ in 0..operations / 1000 {
        for i in 0..1000 {
            batch.push(spawn(give(i)));
        }
        for task in batch.drain(..) {
            sum += task.await.unwrap();
        }
    }
    require(sum == operations / 1000 * 499_500);
    Found::default()
}

// ---- W2 cooperative yield, two tasks

async fn yield_often(times: usize) -> usize {
    for _ in 0..times {
        yield_now().await;
    }
    times
}

async fn yields(operations: usize) -> Found {
    let a = spawn(yield_often(operations / 2));
    let b = spawn(yield_often(operations / 2));
    require(a.await.unwrap() + b.await.unwrap() == operations);
    Found::default()
}

// ---- W3 ping-pong over two events, a round trip

async fn ping_pong(operations: usize) -> Found {
    let ping = Arc::new(Notify::new());
    let pong = Arc::new(Notify::new());
    let (heard, answer) = (ping.clone(), pong.clone());
    let other = spawn(async move {
        for _ in 0..operations {
            heard.notified().await;
            answer.notify_one();
        }
        operations
    });
    for _ in 0..operations {
        ping.notify_one();
        pong.notified().await;
    }
    require(other.await.unwrap() == operations);
    Found::default()
}

// ---- W4 queue(10), one producer, four consumers: of the channel that tokio's documentation names for several consumers

async fn pipeline(operations: usize) -> Found {
    let (sender, receiver) = async_channel::bounded(10);
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let receiver = receiver.clone();
            spawn(async move {
                let mut sum = 0;
                while let Ok(item) = receiver.recv().await {
                    sum += item;
                }
                sum
            })
        })
        .collect();
    for i in 0..operations {
        sender.send(i).await.unwrap();
    }
    sender.close();
    let mut sum = 0;
    for consumer in consumers {
        sum += consumer.await.unwrap();
    }
    require(sum == operations * (operations - 1) / 2);
    Found::default()
}

// ---- W5 lock, 100 tasks, a yield inside

async fn lock_contention(operations: usize) -> Found {
    let lock = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let lock = lock.clone();
            spawn(async move {
                for _ in 0..operations / 100 {
                    let mut count = lock.lock().await;
                    yield_now().await;
                    *count += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    require(*lock.lock().await == operations);
    Found::default()
}

// ---- W6a many sleeping tasks

fn resident_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

async fn sleepers(operations: usize) -> Found {
    let mut tasks = Vec::with_capacity(operations);
    let started = Arc::new(AtomicUsize::new(0));
    let before = resident_bytes();
    for _ in 0..operations {
        let started = started.clone();
        tasks.push(spawn(async move {
            started.fetch_add(1, Relaxed);
            sleep(Duration::from_secs(1)).await
        }));
    }
    while started.load(Relaxed) < operations {
        yield_now().await;
    }
    let bytes = (resident_bytes() - before) / operations as f64;
    for task in tasks {
        task.await.unwrap();
    }
    Found { bytes_per_task: bytes, ..Found::default() }
}

// ---- W6b a timeout that never fires, around one yield

async fn timeouts(operations: usize) -> Found {
    for _ in 0..operations {
        require(timeout(Duration::from_secs(10), yield_now()).await.is_ok());
    }
    Found::default()
}

// ---- W7 nested await

async fn nested(operations: usize) -> Found {
    let mut sum = 0;
    for i in 0..operations {
        sum += give(opaque(i)).await;
    }
    require(sum == operations * (operations - 1) / 2);
    Found::default()
}

// ---- W7r nested awaits, 100 deep, by recursion: each future is boxed, for its size cannot be known

fn depth(n: usize) -> Pin<Box<dyn Future<Output = usize> + Send>> {
    Box::pin(async move { if n == 0 { 0 } else { 1 + depth(n - 1).await } })
}

async fn recursion(operations: usize) -> Found {
    let mut sum = 0;
    for _ in 0..operations / 100 {
        sum += depth(99).await;
    }
    require(sum == operations / 100 * 99);
    Found::default()
}

// ---- W8 an item of a stream

fn count_to(n: usize) -> impl Stream<Item = usize> {
    stream::unfold(0, move |i| async move {
        if i < n {
            Some((opaque(i), i + 1))
        } else {
            None
        }
    })
}

async fn generate(operations: usize) -> Found {
    let mut sum = 0;
    let mut numbers = Box::pin(count_to(operations));
    while let Some(i) = numbers.next().await {
        sum += i;
    }
    require(sum == operations * (operations - 1) / 2);
    Found::default()
}

// ---- W9 a no-op in a thread pool and back

async fn thread_round_trips(operations: usize) -> Found {
    let mut done = 0;
    for _ in 0..operations {
        done += tokio::task::spawn_blocking(|| 1).await.unwrap();
    }
    require(done == operations);
    Found::default()
}

// ---- W10 TCP echo: 100 connections, 64 bytes there and back, both ends in this thread

async fn echo_handler(mut client: TcpStream) {
    let mut block = [0; 4096];
    loop {
        let n = client.read(&mut block).await.unwrap();
        if n == 0 {
            break;
        }
        client.write_all(&block[..n]).await.unwrap();
    }
}

async fn echo(operations: usize) -> Found {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            spawn(echo_handler(client));
        }
    });
    let clients: Vec<_> = (0..100)
        .map(|_| {
            spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let mut answer = [0; 64];
                let mut count = 0;
                for _ in 0..operations / 100 {
                    server.write_all(&[0; 64]).await.unwrap();
                    server.read_exact(&mut answer).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for client in clients {
        count += client.await.unwrap();
    }
    require(count == operations);
    Found::default()
}

// ---- W10t the same over TLS, by native-tls, which is OpenSSL. The handshakes are done before the time counts

async fn secure_echo(operations: usize, folder: String) -> Found {
    let certificate = std::fs::read(folder.clone() + "/cert.pem").unwrap();
    let key = std::fs::read(folder + "/key.pem").unwrap();
    let own = native_tls::Identity::from_pkcs8(&certificate, &key).unwrap();
    let acceptor = tokio_native_tls::TlsAcceptor::from(native_tls::TlsAcceptor::new(own).unwrap());
    let trusted = native_tls::Certificate::from_pem(&certificate).unwrap();
    let trusting = native_tls::TlsConnector::builder().add_root_certificate(trusted).build().unwrap();
    let connector = tokio_native_tls::TlsConnector::from(trusting);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            client.set_nodelay(true).unwrap();
            let acceptor = acceptor.clone();
            spawn(async move {
                let mut client = acceptor.accept(client).await.unwrap();
                let mut block = [0; 4096];
                while let Ok(n) = client.read(&mut block).await {
                    if n == 0 || client.write_all(&block[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let mut servers = Vec::new();
    for _ in 0..100 {
        let server = TcpStream::connect(address).await.unwrap();
        server.set_nodelay(true).unwrap();
        servers.push(connector.connect("localhost", server).await.unwrap());
    }
    let started = Some((cpu_seconds(), Instant::now()));
    let clients: Vec<_> = servers
        .into_iter()
        .map(|mut server| {
            spawn(async move {
                let mut answer = [0; 64];
                let mut count = 0;
                for _ in 0..operations / 100 {
                    server.write_all(&[0; 64]).await.unwrap();
                    server.read_exact(&mut answer).await.unwrap();
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for client in clients {
        count += client.await.unwrap();
    }
    require(count == operations);
    Found { started, ..Found::default() }
}

// ---- W11 start a sleeping task, cancel it, join it

async fn cancellations(operations: usize) -> Found {
    let mut cancelled = 0;
    for _ in 0..operations {
        let task = spawn(sleep(Duration::from_secs(1)));
        yield_now().await;
        task.abort();
        cancelled += task.await.unwrap_err().is_cancelled() as usize;
    }
    require(cancelled == operations);
    Found::default()
}

// ---- W12 the lines of a large file

async fn lines(operations: usize, path: String) -> Found {
    let file = tokio::fs::File::open(path).await.unwrap();
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut line, mut count, mut bytes) = (Vec::new(), 0, 0);
    while reader.read_until(b'\n', &mut line).await.unwrap() > 0 {
        count += 1;
        bytes += line.len();
        line.clear();
    }
    require(count == operations);
    Found { more: format!(", \"bytes\": {bytes}"), ..Found::default() }
}

// ---- tail: 10,000 tasks that work a little and yield, and one that is woken every millisecond

async fn tail(milliseconds: usize) -> Found {
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..10_000)
        .map(|_| {
            let stop = stop.clone();
            spawn(async move {
                let (mut x, mut count) = (1u64, 0);
                while !stop.load(Relaxed) {
                    for _ in 0..4 {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                    }
                    count += 1;
                    yield_now().await;
                }
                require(x != 0);
                count
            })
        })
        .collect();
    yield_now().await;
    let mut late = Vec::new();
    let end = Instant::now() + Duration::from_millis(milliseconds as u64);
    loop {
        let due = Instant::now() + Duration::from_millis(1);
        sleep(Duration::from_millis(1)).await;
        let now = Instant::now();
        late.push(now.saturating_duration_since(due).as_nanos() as f64 / 1e3);
        if now > end {
            break;
        }
    }
    stop.store(true, Relaxed);
    let mut yields: usize = 0;
    for task in tasks {
        yields += task.await.unwrap();
    }
    require(yields >= 10_000);
    late.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let at = |share: f64| late[((late.len() as f64 * share) as usize).min(late.len() - 1)];
    let more = format!(
        ", \"ticks\": {}, \"yields\": {}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"p999_us\": {:.1}, \"max_us\": {:.1}",
        late.len(),
        yields,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Found { more, ..Found::default() }
}

// ---- one of them

async fn run(name: String, operations: usize, file: Option<String>) -> Option<Found> {
    Some(match name.as_str() {
        "W1" => spawn_join(operations).await,
        "W2" => yields(operations).await,
        "W3" => ping_pong(operations).await,
        "W4" => pipeline(operations).await,
        "W5" => lock_contention(operations).await,
        "W6a" => sleepers(operations).await,
        "W6b" => timeouts(operations).await,
        "W7" => nested(operations).await,
        "W7r" => recursion(operations).await,
        "W8" => generate(operations).await,
        "W9" => thread_round_trips(operations).await,
        "W10" => echo(operations).await,
        "W10t" => secure_echo(operations, file?).await,
        "W11" => cancellations(operations).await,
        "W12" => lines(operations, file?).await,
        "tail" => tail(operations).await,
        _ => return None,
    })
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

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() < 3 {
        eprintln!("usage: workload NAME OPERATIONS [FILE]");
        std::process::exit(2);
    }
    let name = arguments[1].clone();
    let multiple = match name.as_str() {
        "W1" => 1000,
        "W2" => 2,
        "W5" | "W7r" | "W10" | "W10t" => 100,
        _ => 1,
    };
    let operations = arguments[2].parse::<usize>().unwrap() / multiple * multiple;
    let file = arguments.get(3).cloned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cpu, start) = (cpu_seconds(), Instant::now());
    // In a task of its own: the future of block_on itself is woken in a slower way.
    let found = runtime.block_on(async { spawn(run(name.clone(), operations, file)).await.unwrap() });
    let (cpu, start) = found.as_ref().and_then(|f| f.started).unwrap_or((cpu, start));
    let wall = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds() - cpu;
    match found {
        None => {
            eprintln!("usage: workload NAME OPERATIONS [FILE]");
            std::process::exit(2);
        }
        Some(found) => println!(
            "{{\"workload\": \"{name}\", \"operations\": {operations}, \"seconds\": {wall:.9}, \"cpu_seconds\": {cpu:.9}, \
             \"bytes_per_task\": {:.1}{}}}",
            found.bytes_per_task, found.more
        ),
    }
}

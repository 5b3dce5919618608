// Items through the channels of Rust: what bench/shared_queue.cpp does. tokio's mpsc has one consumer; where there are
// more, tokio's tasks use async-channel. crossbeam's channel is for threads: each producer and consumer is one.
//
// Usage: queues tokio|async-channel|crossbeam PRODUCERS CONSUMERS BYTES CAPACITY ITEMS THREADS [apart]
// apart: the producer and the consumer have a runtime of one thread each.
use std::future::Future;
use std::time::Instant;

trait Item: Send + 'static {
    fn make(n: u64, bytes: usize) -> Self;
    fn value(&self) -> u64;
}
impl Item for u64 {
    fn make(n: u64, _: usize) -> u64 {
        n
    }
    fn value(&self) -> u64 {
        *self
    }
}
impl Item for Vec<u8> {
    fn make(n: u64, bytes: usize) -> Vec<u8> {
        vec![n as u8; bytes]
    }
    fn value(&self) -> u64 {
        *self.last().unwrap() as u64
    }
}

#[derive(Clone, Copy)]
struct Settings {
    producers: usize,
    consumers: usize,
    bytes: usize,
    capacity: usize,
    each: u64,
    threads: usize,
    apart: bool,
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().unwrap()
}

/// Each future on a thread of its own, with a runtime of its own.
fn apart(producer: impl Future<Output = ()> + Send + 'static, consumer: impl Future<Output = u64>) -> u64 {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let other = std::thread::spawn(move || runtime().block_on(producer));
    let sum = runtime().block_on(consumer);
    other.join().unwrap();
    sum
}

async fn produce_tokio<T: Item>(s: Settings, sender: tokio::sync::mpsc::Sender<T>) {
    for i in 0..s.each {
        sender.send(T::make(i, s.bytes)).await.ok().unwrap();
    }
}

async fn consume_tokio<T: Item>(mut receiver: tokio::sync::mpsc::Receiver<T>) -> u64 {
    let mut sum = 0;
    while let Some(item) = receiver.recv().await {
        sum += item.value();
    }
    sum
}

fn tokio_mpsc<T: Item>(s: Settings) -> u64 {
    let (sender, receiver) = tokio::sync::mpsc::channel::<T>(s.capacity);
    if s.apart {
        return apart(produce_tokio(s, sender), consume_tokio(receiver));
    }
    runtime(s.threads).block_on(async move {
        for _ in 0..s.producers {
            tokio::spawn(produce_tokio(s, sender.clone()));
        }
        drop(sender);
        tokio::spawn(consume_tokio(receiver)).await.unwrap()
    })
}

async fn produce<T: Item>(s: Settings, sender: async_channel::Sender<T>) {
    for i in 0..s.each {
        sender.send(T::make(i, s.bytes)).await.ok().unwrap();
    }
}

async fn consume<T: Item>(receiver: async_channel::Receiver<T>) -> u64 {
    let mut sum = 0;
    while let Ok(item) = receiver.recv().await {
        sum += item.value();
    }
    sum
}

fn async_channels<T: Item>(s: Settings) -> u64 {
    let (sender, receiver) = async_channel::bounded::<T>(s.capacity);
    if s.apart {
        return apart(produce(s, sender), consume(receiver));
    }
    runtime(s.threads).block_on(async move {
        for _ in 0..s.producers {
            tokio::spawn(produce(s, sender.clone()));
        }
        drop(sender);
        let consumers: Vec<_> = (0..s.consumers).map(|_| tokio::spawn(consume(receiver.clone()))).collect();
        let mut sum = 0;
        for consumer in consumers {
            sum += consumer.await.unwrap();
        }
        sum
    })
}

fn crossbeam<T: Item>(s: Settings) -> u64 {
    let (sender, receiver) = crossbeam_channel::bounded::<T>(s.capacity);
    for _ in 0..s.producers {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for i in 0..s.each {
                sender.send(T::make(i, s.bytes)).unwrap();
            }
        });
    }
    drop(sender);
    let mut consumers = Vec::new();
    for _ in 0..s.consumers {
        let receiver = receiver.clone();
        consumers.push(std::thread::spawn(move || receiver.iter().map(|item| item.value()).sum::<u64>()));
    }
    consumers.into_iter().map(|c| c.join().unwrap()).sum()
}

fn measure<T: Item>(which: &str, s: Settings) {
    let start = Instant::now();
    let sum = match which {
        "tokio" if s.consumers > 1 => {
            eprintln!("tokio's mpsc has one consumer");
            std::process::exit(3)
        }
        "tokio" => tokio_mpsc::<T>(s),
        "crossbeam" if s.threads == 1 => {
            eprintln!("crossbeam's channel is for threads");
            std::process::exit(3)
        }
        "async-channel" => async_channels::<T>(s),
        _ => crossbeam::<T>(s),
    };
    let seconds = start.elapsed().as_secs_f64();
    let expected: u64 = (0..s.each).map(|i| T::make(i, 8).value()).sum();
    assert_eq!(sum, expected * s.producers as u64, "the items were not all passed on");
    println!("{{\"operations\": {}, \"seconds\": {:.6}}}", s.each * s.producers as u64, seconds);
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let number = |i: usize| words[i].parse::<usize>().unwrap();
    let s = Settings {
        producers: number(2),
        consumers: number(3),
        bytes: number(4),
        capacity: number(5),
        each: (number(6) / number(2)) as u64,
        threads: number(7),
        apart: words.get(8).map_or(false, |w| w == "apart"),
    };
    if s.bytes == 8 {
        measure::<u64>(&words[1], s);
    } else {
        measure::<Vec<u8>>(&words[1], s);
    }
}

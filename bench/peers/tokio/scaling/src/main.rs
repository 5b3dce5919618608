//! The server of bench/scaling_server.cpp with hyper and rusqlite, on tokio's multi-thread runtime.
//!
//! Usage: scaling_server PORT THREADS DATABASE
//! See ../../../../README.md.

use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::convert::Infallible;

#[derive(Serialize)]
struct Item {
    id: u32,
    name: String,
    sold: bool,
}

fn items() -> Vec<u8> {
    let all: Vec<Item> = (0..100).map(|i| Item { id: i, name: format!("item {i}"), sold: i % 2 == 0 }).collect();
    serde_json::to_vec(&all).unwrap()
}

fn connect() -> Connection {
    let database = std::env::args().nth(3).unwrap();
    Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX).unwrap()
}

thread_local! { static DATABASE: Connection = connect(); }

// The query runs on the thread of the runtime, because it is shorter than a way to another thread and back.
fn names() -> String {
    DATABASE.with(|database| {
        let mut statement = database.prepare_cached("SELECT id, name FROM items WHERE id > ? ORDER BY id LIMIT 50").unwrap();
        let mut rows = statement.query([500]).unwrap();
        let mut all = String::with_capacity(1024);
        while let Some(row) = rows.next().unwrap() {
            all.push_str(row.get_ref_unwrap(1).as_str().unwrap());
            all.push('\n');
        }
        all
    })
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (kind, body) = match request.uri().path() {
        "/json" => ("application/json", Body::from(items())),
        "/sqlite" => ("text/plain", Body::from(names())),
        _ => ("text/plain", Body::from("hello, world\n")),
    };
    Ok(Response::builder().header("Content-Type", kind).body(body).unwrap())
}

async fn serve(port: u16) {
    let connections = make_service_fn(|_| async { Ok::<_, Infallible>(service_fn(answer)) });
    let server = Server::bind(&([127, 0, 0, 1], port).into()).tcp_nodelay(true).serve(connections);
    server.await.unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let threads = arguments[2].parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(serve(arguments[1].parse().unwrap())).await.unwrap() });
}

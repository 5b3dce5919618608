//! The server of bench/scaling_server.cpp with hyper, on tokio's multi-thread runtime.
//!
//! Usage: scaling_server PORT THREADS
//! See ../../../../README.md.

use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use serde_json::{json, Value};
use std::convert::Infallible;

fn items() -> String {
    let all: Vec<Value> = (0..10)
        .map(|i| json!({ "id": i, "name": format!("item {i}"), "sold": i % 2 == 0 }))
        .collect();
    Value::from(all).to_string()
}

async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (kind, body) = match request.uri().path() {
        "/json" => ("application/json", Body::from(items())),
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

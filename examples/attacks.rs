//! Attacks that every service should withstand, run against a service of your own.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;

use nats_rpc::NatsConfig;
use nats_rpc::prelude::*;
use nats_rpc::testing::AttackSuite;

#[derive(Deserialize, Serialize)]
struct Order {
    article: String,
    pieces: u32,
}

#[message_pattern("orders.price")]
async fn price(Payload(Order { article, pieces }): Payload<Order>) -> Result<u32, RpcError> {
    if article.is_empty() {
        return Err(RpcError::invalid_argument("the article is missing"));
    }
    pieces.checked_mul(7).ok_or_else(|| RpcError::invalid_argument("too many pieces"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = Service::new("orders", "1.0.0").handlers(handlers![price]);
    let running = service.start(NatsConfig::from_env()?).await?;

    // In a test, `run(service)` starts nats-server and the service. This program already has a server.
    let order = Order { article: "lamp".to_owned(), pieces: 3 };
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    let report = AttackSuite::new("orders.price", &order)?.run_on(&url).await?;
    println!("{report}");
    report.assert_clean();

    running.stop().await;
    Ok(())
}

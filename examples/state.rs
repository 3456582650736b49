//! Provided values, named parameters, and custom errors.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use nats_rpc::prelude::*;
use nats_rpc::{Client, IntoRpcError, NatsConfig};

/// Cheap to clone, because each request receives a clone.
#[derive(Clone, Default)]
struct Stock(Arc<Mutex<HashMap<String, u32>>>);

#[derive(Debug, thiserror::Error, IntoRpcError)]
enum StockError {
    #[error("there is no article {0:?}")]
    #[rpc(not_found)]
    Unknown(String),
    #[error("only {left} are left")]
    #[rpc(conflict)]
    TooFew { left: u32 },
}

#[derive(Serialize, Deserialize)]
struct Take {
    count: u32,
}

#[message_pattern("stock.{article}.take")]
async fn take(
    State(stock): State<Stock>,
    Param(article): Param<String>,
    Payload(Take { count }): Payload<Take>,
) -> Result<u32, StockError> {
    let mut articles = stock.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(left) = articles.get_mut(&article) else { return Err(StockError::Unknown(article)) };
    *left = left.checked_sub(count).ok_or(StockError::TooFew { left: *left })?;
    Ok(*left)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let stock = Stock::default();
    stock.0.lock().unwrap_or_else(PoisonError::into_inner).insert("bolt".to_owned(), 10);

    let nats = NatsConfig::from_env()?;
    let service = Service::new("stock", "1.0.0").handlers(handlers![take]).provide(stock);
    let running = service.start(nats.clone()).await?;

    let client = Client::connect(&nats).await?;
    let left: u32 = client.send("stock.bolt.take", &Take { count: 4 }).await?;
    println!("4 taken, {left} left");
    for (subject, count) in [("stock.bolt.take", 9), ("stock.nut.take", 1)] {
        match client.send::<u32>(subject, &Take { count }).await {
            Ok(left) => println!("{left} left"),
            Err(error) => println!("{subject}: {error}"),
        }
    }

    running.stop().await;
    Ok(())
}

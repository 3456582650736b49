//! Many replies to one request: items as they become available, at the caller's pace, until the caller disconnects.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;
use std::time::Duration;

use futures::{Stream, stream};
use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client, NatsConfig};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

/// A handler returns errors that precede the first item in a `Result`.
#[message_pattern("readings.of")]
async fn readings(
    Payload(sensors): Payload<Vec<String>>,
) -> Result<Streaming<impl Stream<Item = Result<Reading, RpcError>>>, RpcError> {
    if sensors.is_empty() {
        return Err(RpcError::invalid_argument("name at least one sensor"));
    }
    let readings = sensors.into_iter().map(|sensor| match sensor.as_str() {
        "attic" => Err(RpcError::unavailable("the sensor in the attic does not answer")),
        _ => Ok(Reading { celsius: 18.0 + sensor.len() as f64 / 2.0, sensor }),
    });
    Ok(Streaming::new(stream::iter(readings)))
}

/// Sends a message when it is dropped.
struct Ticker(mpsc::UnboundedSender<&'static str>);

impl Drop for Ticker {
    fn drop(&mut self) {
        // The receiver may already be gone.
        let _ = self.0.send("the ticker was dropped: its caller is gone");
    }
}

/// The stream does not end by itself: it lasts as long as its caller, at most an hour.
#[message_pattern("ticks", timeout_ms = 3_600_000)]
async fn ticks(
    State(log): State<mpsc::UnboundedSender<&'static str>>,
) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    Streaming::new(stream::unfold((1, Ticker(log)), async |(tick, ticker)| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Some((Ok(tick), (tick + 1, ticker)))
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (log, mut lines) = mpsc::unbounded_channel::<&str>();
    let nats = NatsConfig::from_env()?;
    let service = Service::new("readings", "1.0.0").handlers(handlers![readings, ticks]).provide(log);
    let running = service.start(nats.clone()).await?;
    let client = Client::connect(&nats).await?;

    let mut readings = client.stream::<Reading>("readings.of", &["cellar", "kitchen", "attic"]).await?;
    while let Some(reading) = readings.next().await {
        match reading {
            Ok(Reading { sensor, celsius }) => println!("{sensor}: {celsius} °C"),
            Err(CallError::Remote(error)) => println!("and then: {error}"),
            // A stream that ends early always ends with an error.
            Err(other) => return Err(other.into()),
        }
    }
    match client.stream::<Reading>("readings.of", &[""; 0]).await {
        Err(refused) => println!("{refused}"),
        Ok(_) => return Err("it should have been refused".into()),
    }

    let mut ticks = client.stream::<u64>("ticks", &()).await?;
    for _ in 0..3 {
        if let Some(tick) = ticks.next().await {
            println!("tick {}", tick?);
        }
    }
    drop(ticks);
    println!("{}", lines.recv().await.unwrap_or_default());

    running.stop().await;
    Ok(())
}

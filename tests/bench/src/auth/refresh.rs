//! One refresh: a read and a compare-and-set in JetStream KV, file storage, one replica.

use std::error::Error;
use std::time::Instant;

use futures::future::try_join_all;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Owner, SessionConfig, Sessions};
use nats_rpc_jwt::SecretKey;

use super::{Latency, micros};

const ALONE: usize = 2_000;
const SESSIONS: usize = 32;
const EACH: usize = 100;

/// Measures sequential refreshes, and refreshes of many sessions concurrently.
pub(super) async fn measure(server: &NatsServer) -> Result<(Latency, Latency), Box<dyn Error>> {
    let connection = Connection::open(&NatsConfig::new(server.url())).await?;
    Sessions::provision(&connection.jetstream(), 1).await?;
    let pepper = SecretKey::new("JWT_REFRESH_SECRET", "a pepper for benches alone, 32 bytes and more")?;
    let sessions = Sessions::open(&connection, SessionConfig::new(&pepper)).await?;
    let alone = refresh(&sessions, 0, ALONE).await?;
    let at_once = try_join_all((1..=SESSIONS).map(|user| refresh(&sessions, user, EACH))).await?;
    Ok((Latency::of(&alone), Latency::of(&at_once.concat())))
}

async fn refresh(sessions: &Sessions, user: usize, times: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut issued = sessions.create(Owner::new(format!("user {user}"), "account")).await?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        issued = sessions.refresh(&issued.refresh_token).await?;
        took.push(micros(start));
    }
    Ok(took)
}

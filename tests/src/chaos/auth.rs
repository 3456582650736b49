//! Sessions and revocations: when everybody refreshes at once, when a node dies, when nothing arrives.

mod node_kill;
mod refreshes;
mod revocations;

use nats_rpc::auth::{Grant, Revoker, SessionConfig, Sessions, TokenIssuer};
use nats_rpc::{Connection, NatsConfig, SecretKey};

use super::Options;
use super::report::Row;
use super::stage::{runtime, soon};

/// How many connections the auth instances of a scenario have.
const INSTANCES: usize = 4;

pub(super) fn run(options: Options) -> Vec<Row> {
    let mut rows = runtime(2).block_on(refreshes::run(options));
    rows.extend(runtime(2).block_on(revocations::run(options)));
    rows.extend(runtime(2).block_on(node_kill::run(options)));
    rows
}

fn secret(name: &'static str, byte: u8) -> SecretKey {
    SecretKey::new(name, [byte; 32]).expect("32 bytes")
}

/// An access token of a session.
fn token(sid: &str) -> String {
    let issuer = TokenIssuer::hs256(&secret("JWT_SECRET", 7));
    issuer.issue(&Grant::new("u1", sid)).expect("a token")
}

async fn open(nats: &NatsConfig) -> Connection {
    soon(Connection::open(nats)).await.expect("a connection")
}

/// Auth instances, each on a connection of its own.
async fn instances(nats: &NatsConfig) -> Vec<Sessions> {
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let config = SessionConfig::new(&secret("JWT_REFRESH_SECRET", 1));
        instances.push(soon(Sessions::open(&open(nats).await, config)).await.expect("sessions"));
    }
    instances
}

async fn revoker(connection: &Connection) -> Revoker {
    soon(Revoker::open(connection)).await.expect("a revoker")
}

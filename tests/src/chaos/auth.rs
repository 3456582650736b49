//! Sessions and revocations: under concurrent refreshes, after the loss of a node, and during a silent outage.

mod node_kill;
mod refreshes;
mod revocations;

use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Grant, SessionConfig, Sessions, TokenIssuer};
use nats_rpc_jwt::Revoker;
use nats_rpc_jwt::SecretKey;

use super::Options;
use super::report::Row;
use super::stage::{runtime, soon};

/// Number of connections of auth instances in a scenario.
const INSTANCES: usize = 4;
const ACCESS_SECRET: &str = "the access secret of the scenarios";
const REFRESH_SECRET: &str = "the refresh secret of the scenarios";

pub(super) fn run(options: Options) -> Vec<Row> {
    let mut rows = runtime(2).block_on(refreshes::run(options));
    rows.extend(runtime(2).block_on(revocations::run(options)));
    rows.extend(runtime(2).block_on(node_kill::run(options)));
    rows
}

fn access_secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", ACCESS_SECRET).expect("32 bytes")
}

/// Returns an access token of a session.
fn token(sid: &str) -> String {
    let issuer = TokenIssuer::hs256(&access_secret());
    issuer.issue(&Grant::new("u1", sid)).expect("a token")
}

async fn open(nats: &NatsConfig) -> Connection {
    soon(Connection::open(nats)).await.expect("a connection")
}

/// Opens auth instances, each on a connection of its own.
async fn instances(nats: &NatsConfig) -> Vec<Sessions> {
    let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).expect("32 bytes");
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let config = SessionConfig::new(&pepper);
        instances.push(soon(Sessions::open(&open(nats).await, config)).await.expect("sessions"));
    }
    instances
}

async fn revoker(connection: &Connection) -> Revoker {
    soon(Revoker::open(connection)).await.expect("a revoker")
}

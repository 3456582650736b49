//! The key ring on real nats-servers: published, followed, rotated, retired.

mod assertions;
mod attacks;
mod commands;
mod empty;
mod faults;
mod rotation;

use std::time::Duration;

use async_nats::jetstream::{self, kv};
use nats_rpc::Connection;
use nats_rpc::testing::NatsServer;
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::JwtConfig;
use nats_rpc_jwt::{JwksBucket, JwtGuard, JwtRejection, KeyPurpose, KeyRing, Revoker, SigningKeyConfig, SigningKeys};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use crate::support::{PATIENCE, foreign, nats, soon};

const RING: &str = "ring";

/// A server with both rings, and the revocations that services follow beside them.
async fn provisioned() -> NatsServer {
    let server = server();
    let jetstream = jetstream::new(foreign(&server).await);
    for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
        JwksBucket::provision(&jetstream, purpose, 1).await.unwrap();
    }
    Revoker::provision(&jetstream, 1).await.unwrap();
    server
}

async fn connect(server: &NatsServer) -> Connection {
    Connection::open(&nats(server)).await.unwrap()
}

/// Keys that are in use as soon as they have been seen.
fn config() -> SigningKeyConfig {
    SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO)
}

async fn keys(connection: &Connection, config: SigningKeyConfig) -> SigningKeys {
    soon(SigningKeys::open(connection, config)).await.unwrap()
}

fn issue(keys: &SigningKeys) -> String {
    TokenIssuer::ring(keys).issue(&Grant::new("u1", "s1").scope("profile:read")).unwrap()
}

/// What a service on a connection of its own believes.
async fn guard(connection: &Connection) -> JwtGuard {
    JwtGuard::new(JwtConfig::ring(ring(connection).await)).unwrap()
}

async fn ring(connection: &Connection) -> KeyRing {
    soon(KeyRing::watch(connection, KeyPurpose::AccessTokens)).await.unwrap()
}

async fn bucket(connection: &Connection) -> JwksBucket {
    JwksBucket::open(connection, KeyPurpose::AccessTokens).await.unwrap()
}

/// The bucket as somebody has it who may write there.
async fn store(server: &NatsServer) -> kv::Store {
    jetstream::new(foreign(server).await).get_key_value("auth_jwks").await.unwrap()
}

async fn document(store: &kv::Store) -> Value {
    serde_json::from_slice(&store.get(RING).await.unwrap().unwrap()).unwrap()
}

fn kid(token: &str) -> String {
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// Waits until `guard` refuses `token` for `reason`.
async fn until_refused(guard: &JwtGuard, token: &str, reason: JwtRejection) {
    soon(async {
        while guard.verify(token).err() != Some(reason) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Waits until `guard` takes `token`.
async fn until_taken(guard: &JwtGuard, token: &str) {
    soon(async {
        while guard.verify(token).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

//! Tokens of keys that an instance of auth has not heard of yet.

use nats_rpc::Connection;
use nats_rpc_auth::{Grant, ServiceCredentials, TokenIssuer};
use nats_rpc_jwt::JwtConfig;
use nats_rpc_jwt::{JwtRejection, KeyPurpose, Revocations, SigningKeyConfig, SigningKeys};

use super::*;
use crate::support::silence;

#[tokio::test]
async fn a_token_of_a_key_that_auth_has_not_seen_yet_is_revoked() {
    let with_ring = |server: &NatsServer| {
        Options::new(nats(server)).var("JWT_REFRESH_SECRET", REFRESH_SECRET).var("GATEWAY_TIMEOUT_MS", "30000")
    };
    let bed = Bed::start_on(server(), with_ring).await;
    let connection = Connection::open(&bed.system.nats_of("auth")).await.unwrap();
    let credentials = ServiceCredentials::open(&connection).await.unwrap();
    let credential = credentials.add("revokes", "revoke").await.unwrap();
    let revocations = soon(Revocations::watch(&connection)).await.unwrap();

    // Nothing tells the running instances of the next key.
    let bucket = connection.jetstream().get_stream("KV_auth_jwks").await.unwrap();
    silence(&bucket).await;
    let keys = SigningKeyConfig::new(KeyPurpose::AccessTokens);
    let keys = soon(SigningKeys::open(&connection, keys)).await.unwrap();
    let token = TokenIssuer::ring(&keys).issue(&Grant::new("u1", "s1")).unwrap();
    let guard: JwtGuard = JwtGuard::new(JwtConfig::ring(keys.ring().clone()).revocations(revocations)).unwrap();
    assert!(guard.verify(&token).is_ok());

    let (caller, what) = (bed.client.bearer(&credential), json!({ "token": token }));
    soon(async {
        // A busy machine may take longer for the look-up than the first call waits for it.
        while guard.verify(&token).err() != Some(JwtRejection::Revoked) {
            soon(caller.send::<Value>("auth.revoke", &what)).await.unwrap();
        }
    })
    .await;
}

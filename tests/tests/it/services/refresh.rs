//! A refresh that cannot be answered uses nothing up.

use ::auth::account::{AccountKey, Accounts};
use ::users::Replicas;
use async_nats::Subscriber;
use async_nats::jetstream::{self, stream};
use futures::{FutureExt, StreamExt};
use nats_rpc::Code;
use nats_rpc_auth::Email;
use nats_rpc_jwt::Revoker;

use super::*;
use crate::support::{PATIENCE, foreign};

const ADA: &str = "ada@example.com";

/// The system with a key ring, a user, and an ear for stolen tokens.
struct World {
    bed: Bed,
    jetstream: jetstream::Context,
    ada: User,
    stolen: Subscriber,
}

impl World {
    async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    async fn start_with(configure: impl FnOnce(Options) -> Options) -> Self {
        let bed = Bed::start_on(server(), |server| {
            let options = Options::new(nats(server)).var("JWT_REFRESH_SECRET", REFRESH_SECRET);
            configure(options.var("GATEWAY_TIMEOUT_MS", "30000"))
        })
        .await;
        let jetstream = jetstream::new(foreign(&bed.server).await);
        let ada = bed.sign_up(ADA).await;
        let stolen = bed.client.connection().nats().subscribe("auth.audit.token_reused").await.unwrap();
        Self { bed, jetstream, ada, stolen }
    }

    /// How often something was written of sessions.
    async fn writes(&self) -> u64 {
        let stream = self.jetstream.get_stream("KV_auth_sess").await.unwrap();
        stream.cached_info().state.last_sequence
    }

    async fn refresh(&self) -> (u16, Value) {
        self.bed.refresh(&self.ada.refresh_token).await
    }

    /// Asks again and again until there is an answer, which a token gives that was not used up before.
    async fn goes_on(mut self, writes: u64) {
        assert_eq!(self.writes().await, writes, "nothing was used up");
        let answered = async {
            loop {
                let (status, body) = self.refresh().await;
                match status {
                    200 => return body,
                    503 => assert_eq!(self.writes().await, writes),
                    _ => panic!("{status}: {body}"),
                }
            }
        };
        let body = soon(answered).await;
        assert_eq!(self.writes().await, writes + 1, "one rotation");
        assert_eq!(self.bed.refresh(body["refreshToken"].as_str().unwrap()).await.0, 200);
        self.bed.client.connection().round_trip(PATIENCE).await.unwrap();
        assert!(self.stolen.next().now_or_never().is_none(), "nobody is taken for a thief");
    }
}

#[tokio::test]
async fn while_accounts_cannot_be_read_a_refresh_is_503_and_uses_nothing_up() {
    let world = World::start().await;
    let key = AccountKey::of(&Email::parse(ADA).unwrap());
    let accounts = world.jetstream.get_key_value("auth_users").await.unwrap();
    let account = accounts.get(key.as_str()).await.unwrap().unwrap();
    let writes = world.writes().await;

    world.jetstream.delete_stream("KV_auth_users").await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.refresh().await.0, 503);
    }
    Accounts::provision(&world.jetstream, Replicas::ONE).await.unwrap();
    world.jetstream.get_key_value("auth_users").await.unwrap().put(key.as_str(), account).await.unwrap();
    world.goes_on(writes).await;
}

#[tokio::test]
async fn without_a_key_to_sign_with_a_refresh_is_503_and_uses_nothing_up() {
    let world = World::start().await;
    let ring = world.jetstream.get_key_value("auth_jwks").await.unwrap();
    let mut document: Value = serde_json::from_slice(&ring.get("ring").await.unwrap().unwrap()).unwrap();
    let config = ring.stream.get_info().await.unwrap().config;

    // The ring loses its keys, and no other document fits in.
    document["version"] = json!(document["version"].as_u64().unwrap() + 1);
    document["keys"] = json!([]);
    ring.stream.purge().filter("$KV.auth_jwks.ring").await.unwrap();
    let full = stream::Config { discard_new_per_subject: true, ..config.clone() };
    world.jetstream.update_stream(full).await.unwrap();
    ring.put("ring", document.to_string().into()).await.unwrap();
    // Nobody logs in either, which uses up no refresh token; the sessions that it begins are counted too.
    let lost = async { while world.bed.log_in(ADA, PASSWORD).await.0 != 503 {} };
    soon(lost).await;
    let writes = world.writes().await;
    for _ in 0..2 {
        assert_eq!(world.refresh().await.0, 503);
    }
    assert_eq!(world.writes().await, writes);
    world.jetstream.update_stream(config).await.unwrap();
    world.goes_on(writes).await;
}

#[tokio::test]
async fn while_nobody_can_tell_what_is_revoked_a_refresh_is_503_and_uses_nothing_up() {
    let world = World::start_with(|options| options.var("JWT_REVOCATION_MAX_AGE_MS", "1000")).await;
    world.jetstream.delete_stream("KV_auth_rev").await.unwrap();
    // What auth's own guard goes by is what a refresh goes by.
    let ask = || world.bed.client.bearer(&world.ada.access_token);
    let stale = async {
        while ask().send::<Value>("auth.sessions", &json!({})).await.err().and_then(|error| error.code())
            != Some(Code::Unavailable)
        {}
    };
    soon(stale).await;
    let writes = world.writes().await;
    for _ in 0..2 {
        assert_eq!(world.refresh().await.0, 503);
    }
    Revoker::provision(&world.jetstream, 1).await.unwrap();
    world.goes_on(writes).await;
}

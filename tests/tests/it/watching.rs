//! Watching revocations and key rings without a consumer on the server: signed changes, and beacons that prove them
//! complete.

mod beacons;
mod changes;
mod faults;
mod poison;
mod rings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use futures::StreamExt;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::JwtConfig;
use nats_rpc_jwt::{
    ChangeSigner, JwksBucket, JwtGuard, JwtRejection, KeyPurpose, KeyRing, Revocations, Revoker, SigningKeyConfig,
    SigningKeys, TrustBeacon,
};
use nats_rpc_tests::server;

use crate::support::{PATIENCE, foreign, nats, soon};

const SECOND: Duration = Duration::from_secs(1);
const BEACON: &str = "watch.auth_beacon";
const STREAMS: [&str; 3] = ["KV_auth_rev", "KV_auth_jwks", "KV_gw_jwks"];

/// As for auth in its own account; the tests need no second one.
fn without_consumers(config: NatsConfig) -> NatsConfig {
    config.auth_js_api_prefix("$JS.API")
}

/// A server with the buckets, and an instance of auth.
struct World {
    server: NatsServer,
    keys: SigningKeys,
    signer: ChangeSigner,
    revoker: Revoker,
    connection: Connection,
    beacon: Option<TrustBeacon>,
}

/// A service on a connection of its own.
struct Verifier {
    revocations: Revocations,
    guard: JwtGuard,
}

impl World {
    async fn new() -> Self {
        Self::at(server(), 1).await
    }

    async fn at(server: NatsServer, replicas: usize) -> Self {
        provision(&jetstream::new(foreign(&server).await), replicas).await;
        let connection = Connection::open(&without_consumers(nats(&server))).await.unwrap();
        let config = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO);
        let keys = soon(SigningKeys::open(&connection, config)).await.unwrap();
        let signer = ChangeSigner::keys(&keys);
        let revoker = Revoker::open(&connection).await.unwrap().signed_by(&signer);
        let beacon = Some(TrustBeacon::start(&connection, &signer).await.unwrap());
        Self { server, keys, signer, revoker, connection, beacon }
    }

    async fn verifier(&self) -> Verifier {
        Verifier::new(&without_consumers(nats(&self.server)), 30 * SECOND).await
    }

    fn token(&self, sid: &str) -> String {
        TokenIssuer::ring(&self.keys).issue(&Grant::new("u1", sid)).unwrap()
    }

    async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(foreign(&self.server).await)
    }
}

impl Verifier {
    async fn new(config: &NatsConfig, max_stale: Duration) -> Self {
        let connection = Connection::open(config).await.unwrap();
        let ring = soon(KeyRing::watch(&connection, KeyPurpose::AccessTokens)).await.unwrap();
        let revocations = soon(Revocations::watch_within(&connection, max_stale)).await.unwrap();
        let config = JwtConfig::ring(ring).revocations(revocations.clone());
        Self { revocations, guard: JwtGuard::new(config).unwrap() }
    }

    fn refuses(&self, token: &str) -> bool {
        self.guard.verify(token).err() == Some(JwtRejection::Revoked)
    }

    fn age(&self) -> Duration {
        self.revocations.age().unwrap()
    }
}

async fn provision(jetstream: &jetstream::Context, replicas: usize) {
    for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
        JwksBucket::provision(jetstream, purpose, replicas).await.unwrap();
    }
    Revoker::provision(jetstream, replicas).await.unwrap();
}

/// Asks until `is_so`, for as long as anything that works takes.
async fn until(mut is_so: impl FnMut() -> bool) {
    let asking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it does not come about");
}

/// Counts what is asked of the leaders of the streams from now on.
async fn requests(server: &NatsServer) -> Arc<AtomicU64> {
    let nats = foreign(server).await;
    let count = Arc::new(AtomicU64::new(0));
    for subject in ["$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>"] {
        let mut asked = nats.subscribe(subject).await.unwrap();
        let count = count.clone();
        tokio::spawn(async move {
            while asked.next().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    nats.flush().await.unwrap();
    count
}

async fn consumers(jetstream: &jetstream::Context) -> usize {
    let mut count = 0;
    for stream in STREAMS {
        count += jetstream.get_stream(stream).await.unwrap().cached_info().state.consumer_count;
    }
    count
}

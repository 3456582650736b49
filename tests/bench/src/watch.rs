//! Thousands of watchers: the time from the revoking call until the last guard rejects, and the requests at the
//! leader.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::{
    ChangeSigner, JwksBucket, KeyPurpose, KeyRing, Revocations, Revoker, SigningKeyConfig, SigningKeys, TrustBeacon,
};
use nats_rpc_jwt::{JwtConfig, JwtGuard};

use crate::stats::median;

const REVOCATIONS: usize = 10;
/// Time for which requests at the leader are counted.
const COUNTED: Duration = Duration::from_secs(20);
const LIMIT: Duration = Duration::from_secs(60);
/// Number of watchers that start concurrently.
const AT_ONCE: usize = 16;

/// Measures `with` watchers without consumers, and, for comparison, `beside` watchers with consumers.
pub(crate) fn run(server: impl Fn() -> NatsServer, with: usize, beside: usize) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!(
        "| watchers | consumers on `auth_rev` | revoked everywhere, p50 | slowest | requests at the leaders, per second |"
    );
    println!("|---|--:|--:|--:|--:|");
    for (label, watchers, prefix) in
        [("with a consumer each", beside, None), ("without consumers", with, Some("$JS.API"))]
    {
        let server = server();
        let row = runtime.block_on(measure(&server, watchers, prefix))?;
        println!(
            "| {watchers} {label} | {} | {:.1} ms | {:.1} ms | {:.1} |",
            row.consumers, row.p50, row.slowest, row.rate
        );
    }
    Ok(())
}

struct Row {
    consumers: usize,
    p50: f64,
    slowest: f64,
    rate: f64,
}

async fn measure(server: &NatsServer, watchers: usize, prefix: Option<&str>) -> Result<Row, Box<dyn Error>> {
    let config = NatsConfig::new(server.url());
    let config = match prefix {
        Some(prefix) => config.auth_js_api_prefix(prefix),
        None => config,
    };
    let connection = Connection::open(&config).await?;
    let jetstream = connection.jetstream();
    JwksBucket::provision(&jetstream, KeyPurpose::AccessTokens, 1).await?;
    JwksBucket::provision(&jetstream, KeyPurpose::Assertions, 1).await?;
    Revoker::provision(&jetstream, 1).await?;
    let keys = SigningKeyConfig::new(KeyPurpose::AccessTokens);
    let keys = SigningKeys::open(&connection, keys).await?;
    let signer = ChangeSigner::keys(&keys);
    let _beacon = TrustBeacon::start(&connection, &signer).await?;
    let revoker = Revoker::open(&connection).await?.signed_by(&signer);
    let guards: Vec<JwtGuard> =
        stream::iter((0..watchers).map(|_| guard(&config))).buffer_unordered(AT_ONCE).try_collect().await?;
    let consumers = jetstream.get_stream("KV_auth_rev").await?.cached_info().state.consumer_count;

    let asked = requests(&connection).await?;
    tokio::time::sleep(COUNTED).await;
    let rate = asked.load(Ordering::Relaxed) as f64 / COUNTED.as_secs_f64();

    let issuer = TokenIssuer::ring(&keys);
    let mut took = Vec::with_capacity(REVOCATIONS);
    for n in 0..REVOCATIONS {
        let sid = format!("session-{n}");
        let token = issuer.issue(&Grant::new("user", &sid))?;
        let start = Instant::now();
        revoker.session(&sid).await?;
        for guard in &guards {
            while guard.verify(&token).is_ok() {
                if start.elapsed() > LIMIT {
                    return Err("a revocation was not seen".into());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        took.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let slowest = took.iter().copied().fold(0.0, f64::max);
    Ok(Row { consumers, p50: median(&took), slowest, rate })
}

/// Opens a guard on a separate connection, as each process has one.
async fn guard(config: &NatsConfig) -> Result<JwtGuard, Box<dyn Error>> {
    let connection = Connection::open(config).await?;
    let ring = KeyRing::watch(&connection, KeyPurpose::AccessTokens).await?;
    let revocations = Revocations::watch(&connection).await?;
    Ok(JwtGuard::new(JwtConfig::ring(ring).revocations(revocations))?)
}

/// Counts requests to the leaders of streams from now on.
async fn requests(connection: &Connection) -> Result<Arc<AtomicU64>, Box<dyn Error>> {
    let count = Arc::new(AtomicU64::new(0));
    let nats = connection.nats();
    let mut asked = nats.subscribe("$JS.API.>").await?;
    let counter = count.clone();
    tokio::spawn(async move {
        while asked.next().await.is_some() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(count)
}

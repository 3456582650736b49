//! The latency of revocations, and their completeness.

use std::time::{Duration, Instant};

use nats_rpc::NatsConfig;
use nats_rpc_jwt::{JwtConfig, JwtGuard, UserClaims};
use nats_rpc_jwt::{JwtRejection, Revocations, Revoker};

use super::{access_secret, open, revoker, token};
use crate::chaos::Options;
use crate::chaos::report::Row;
use crate::chaos::stage::{PATIENCE, soon};
use crate::proxy::{Proxy, Which};

const SERVICES: usize = 3;

/// Opens a guard as a separate service would have it.
pub(super) async fn guard(nats: &NatsConfig) -> JwtGuard {
    let revocations = soon(Revocations::watch(&open(nats).await)).await.expect("the bucket");
    JwtGuard::<UserClaims>::new(JwtConfig::hs256(access_secret()).revocations(revocations)).expect("a guard")
}

pub(super) async fn run(options: Options) -> Vec<Row> {
    let server = crate::server();
    let nats = NatsConfig::new(server.url());
    let connection = open(&nats).await;
    soon(Revoker::provision(&connection.jetstream(), 1)).await.expect("a bucket");
    let revoker = revoker(&connection).await;
    let proxy = Proxy::to(server.port()).start().await.expect("a proxy");
    let behind = NatsConfig::new(proxy.url());
    let mut guards = Vec::new();
    for _ in 0..SERVICES {
        guards.push(guard(&nats).await);
    }
    let rows = vec![
        latency(&guards, &revoker, options).await,
        black_hole(&guard(&behind).await, &revoker, &proxy, options).await,
        restart(&nats, options).await,
    ];
    drop(server);
    rows
}

/// Measures the time from the revoking call until the last service rejects a token that it accepted before.
async fn latency(guards: &[JwtGuard], revoker: &Revoker, options: Options) -> Row {
    let times = options.pick(500, 20);
    let mut took = Vec::new();
    for number in 0..times {
        let sid = format!("latency-{number}");
        let token = token(&sid);
        assert!(guards.iter().all(|guard| guard.verify(&token).is_ok()));
        let began = Instant::now();
        soon(revoker.session(&sid)).await.expect("it is revoked");
        if wait_until_refused(guards, &token).await {
            took.push(began.elapsed());
        }
    }
    took.sort_unstable();
    let at = |share: f64| took.get(((took.len().saturating_sub(1)) as f64 * share).round() as usize).copied();
    let millis = |share| at(share).unwrap_or_default().as_secs_f64() * 1000.0;
    let in_time = options.short || at(0.99).is_some_and(|p99| p99 < Duration::from_millis(100));
    Row::new(
        format!("{times} sessions revoked, {SERVICES} services"),
        "all refuse each; p99 below 100 ms",
        took.len() == times && in_time,
        format!(
            "{} refused by all, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            took.len(),
            millis(0.5),
            millis(0.99),
            millis(1.0)
        ),
    )
}

async fn wait_until_refused(guards: &[JwtGuard], token: &str) -> bool {
    let asking = async {
        for guard in guards {
            while guard.verify(token).err() != Some(JwtRejection::Revoked) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.is_ok()
}

/// Revokes while no bytes reach the service, and no error reports the outage.
async fn black_hole(guard: &JwtGuard, revoker: &Revoker, proxy: &Proxy, options: Options) -> Row {
    let tokens: Vec<_> = (0..20).map(|number| token(&format!("hole-{number}"))).collect();
    let hole = options.pick(Duration::from_secs(6), Duration::from_secs(2));
    proxy.freeze(Which::All);
    for number in 0..tokens.len() {
        soon(revoker.session(&format!("hole-{number}"))).await.expect("it is revoked");
    }
    tokio::time::sleep(hole).await;
    let missed = tokens.iter().filter(|token| guard.verify(token).is_ok()).count();
    proxy.resume(Which::All);
    let began = Instant::now();
    let mut arrived = 0;
    for token in &tokens {
        arrived += usize::from(wait_until_refused(std::slice::from_ref(guard), token).await);
    }
    Row::new(
        format!("black hole of {} s", hole.as_secs()),
        "all refused once it has passed",
        arrived == tokens.len(),
        format!(
            "{missed} of {} taken in it, {arrived} refused {} ms after it",
            tokens.len(),
            began.elapsed().as_millis()
        ),
    )
}

/// Checks that a service started after all revocations has all of them.
async fn restart(nats: &NatsConfig, options: Options) -> Row {
    let revoked = options.pick(500, 20);
    let began = Instant::now();
    let guard = guard(nats).await;
    let took = began.elapsed();
    let refused = (0..revoked)
        .filter(|number| guard.verify(&token(&format!("latency-{number}"))).err() == Some(JwtRejection::Revoked))
        .count();
    Row::new(
        "a service that starts later",
        "refuses all from its first request",
        refused == revoked,
        format!("{refused} of {revoked} refused, {} ms to load", took.as_millis()),
    )
}

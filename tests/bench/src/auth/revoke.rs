//! One revocation: from the revoking call until the last of three guards rejects the token.

use std::error::Error;
use std::time::{Duration, Instant};

use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::{JwtConfig, JwtGuard};
use nats_rpc_jwt::{Revocations, Revoker};

use super::tokens::secret;
use super::{Latency, micros};

const SERVICES: usize = 3;
const REVOCATIONS: usize = 500;
const LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn measure(server: &NatsServer) -> Result<Latency, Box<dyn Error>> {
    let connection = Connection::open(&NatsConfig::new(server.url())).await?;
    Revoker::provision(&connection.jetstream(), 1).await?;
    let revoker = Revoker::open(&connection).await?;
    let mut guards = Vec::new();
    for _ in 0..SERVICES {
        let own = Connection::open(&NatsConfig::new(server.url())).await?;
        let revocations = Revocations::watch(&own).await?;
        guards.push(JwtGuard::new(JwtConfig::hs256(secret()?).revocations(revocations))?);
    }
    let issuer = TokenIssuer::hs256(&secret()?);
    let mut took = Vec::with_capacity(REVOCATIONS);
    for n in 0..REVOCATIONS {
        let sid = format!("session-{n}");
        let token = issuer.issue(&Grant::new("user", &sid))?;
        guards.iter().try_for_each(|guard: &JwtGuard| guard.verify(&token).map(drop))?;
        let start = Instant::now();
        let watch = async {
            while guards.iter().any(|guard| guard.verify(&token).is_ok()) {
                if start.elapsed() > LIMIT {
                    return Err("a revocation was not seen");
                }
                tokio::task::yield_now().await;
            }
            Ok(micros(start))
        };
        let (revoked, seen) = futures::join!(revoker.session(&sid), watch);
        revoked?;
        took.push(seen?);
    }
    Ok(Latency::of(&took))
}

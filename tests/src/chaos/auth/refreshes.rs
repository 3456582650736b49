//! One refresh token, presented many times concurrently.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nats_rpc::NatsConfig;
use nats_rpc_auth::{Owner, SessionError, Sessions};

use super::{instances, open};
use crate::chaos::Options;
use crate::chaos::report::Row;
use crate::chaos::stage::{grouped, soon};

/// Number of clients that present the token concurrently.
pub(super) const AT_ONCE: usize = 32;

pub(super) async fn run(options: Options) -> Vec<Row> {
    let server = crate::server();
    let nats = NatsConfig::new(server.url());
    let jetstream = open(&nats).await.jetstream();
    soon(Sessions::provision(&jetstream, 1)).await.expect("a bucket");
    let instances: Arc<Vec<_>> = Arc::new(instances(&nats).await);
    let rounds = options.pick(50, 5);

    let mut tally = Tally::default();
    let mut current = soon(instances[0].create(Owner::new("u1", "k1"))).await.expect("a session").refresh_token;
    let bucket = jetstream.get_stream("KV_auth_sess").await.expect("the bucket");
    let before = bucket.get_info().await.expect("it answers").state.last_sequence;
    let refresh = {
        let instances = instances.clone();
        move |number: usize, token: String| {
            let instances = instances.clone();
            async move {
                match instances[number % instances.len()].refresh(&token).await {
                    Ok(issued) => Tried::Successor(issued.refresh_token),
                    Err(SessionError::Unavailable(_) | SessionError::Contended) => Tried::Again,
                    Err(_) => Tried::Refused,
                }
            }
        }
    };
    for _ in 0..rounds {
        match round(refresh.clone(), &current, AT_ONCE, &mut tally).await {
            Some(successor) => current = successor,
            None => break,
        }
    }
    let rotations = bucket.get_info().await.expect("it answers").state.last_sequence - before;
    vec![Row::new(
        format!("{rounds} rounds x {AT_ONCE} refreshes over {} connections", instances.len()),
        "one rotation a round, one successor, no session lost",
        rotations == rounds && tally.one_successor(rounds),
        format!("{rotations} rotations, {tally}"),
    )]
}

/// Outcomes of rounds.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) rounds: u64,
    /// Rounds that returned several successors.
    forked: u64,
    /// Sessions that ended without a theft.
    pub(super) lost: u64,
    /// Tries that ended in "try again".
    pub(super) retries: u64,
    took: Vec<Duration>,
}

impl Tally {
    pub(super) fn one_successor(&self, rounds: u64) -> bool {
        self.rounds >= rounds && self.forked == 0 && self.lost == 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.forked += other.forked;
        self.lost += other.lost;
        self.retries += other.retries;
        self.took.extend(other.took);
    }

    pub(super) fn longest(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |share: f64| {
            let index = (took.len().saturating_sub(1) as f64 * share).round() as usize;
            took.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
        };
        write!(
            f,
            "{} refreshes, {} retries, {} rounds forked, {} sessions lost, p50 {:.1} ms, p99 {:.1} ms",
            grouped(took.len() as u64),
            grouped(self.retries),
            self.forked,
            self.lost,
            at(0.5),
            at(0.99)
        )
    }
}

/// The outcome of one try.
pub(super) enum Tried {
    Successor(String),
    /// The client may retry with the same token.
    Again,
    Refused,
}

/// Presents `token` from `at_once` clients, each of which retries on "try again".
///
/// Returns the successor, if there is one.
///
/// `refresh` receives the number of a client and the token.
pub(super) async fn round<R: Future<Output = Tried> + Send + 'static>(
    refresh: impl Fn(usize, String) -> R + Clone + Send + Sync + 'static,
    token: &str,
    at_once: usize,
    tally: &mut Tally,
) -> Option<String> {
    let clients = (0..at_once).map(|number| {
        let (refresh, token) = (refresh.clone(), token.to_owned());
        tokio::spawn(async move {
            let (began, mut retries) = (Instant::now(), 0);
            loop {
                match refresh(number, token.clone()).await {
                    Tried::Successor(successor) => return (Some(successor), retries, began.elapsed()),
                    Tried::Again => retries += 1,
                    Tried::Refused => return (None, retries, began.elapsed()),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let mut successors = HashSet::new();
    let mut refused = false;
    for client in soon(join_all(clients)).await {
        let (successor, retries, took) = client.expect("a client does not panic");
        refused |= successor.is_none();
        successors.extend(successor);
        tally.retries += retries;
        tally.took.push(took);
    }
    tally.rounds += 1;
    tally.forked += u64::from(successors.len() > 1);
    tally.lost += u64::from(refused);
    successors.into_iter().next().filter(|_| !refused)
}

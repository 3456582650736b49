//! The node that leads sessions and revocations is killed: nobody is logged out, and no guard closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use nats_rpc::auth::{Owner, Revoker, Sessions};
use nats_rpc::jwt::Refusal;
use nats_rpc::prelude::*;
use nats_rpc::{Client, NatsConfig};

use super::refreshes::{Tally, round};
use super::revocations::guard;
use super::{instances, open, revoker, token};
use crate::chaos::Options;
use crate::chaos::load::{Load, call};
use crate::chaos::report::Row;
use crate::chaos::stage::{grouped, soon, until};
use crate::nodes::{ELECTION_LIMIT, Nodes, leader};

const SESSIONS: &str = "KV_auth_sess";
const REVOCATIONS: &str = "KV_auth_rev";
/// How many sessions are refreshed all the while, and by how many clients at once each.
const FAMILIES: usize = 8;
const AT_ONCE: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(2);

#[message_pattern("auth.guarded")]
#[use_guards(JwtGuard)]
async fn guarded(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

pub(super) async fn run(options: Options) -> Vec<Row> {
    let mut nodes = Nodes::start();
    let nats = NatsConfig::new(nodes.urls());
    let connection = open(&nats).await;
    let jetstream = connection.jetstream();
    provision(&jetstream).await;
    let lost = leader(&jetstream, SESSIONS).await;
    let moved = until(ELECTION_LIMIT, async || {
        // Both have to lead from the node that is killed.
        let preferred = serde_json::json!({ "placement": { "preferred": lost } });
        let subject = format!("STREAM.LEADER.STEPDOWN.{REVOCATIONS}");
        let _: Result<serde_json::Value, _> = jetstream.request(subject, &preferred).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        leader(&jetstream, REVOCATIONS).await == lost
    });
    moved.await.expect("a leader moves where it should");

    let guard = guard(&nats).await;
    let service = Service::new("guarded", "1.0.0").handlers(handlers![guarded]).guard(guard.clone());
    let service = soon(service.start(nats.clone())).await.expect("a service");
    let caller = soon(Client::connect(&nats)).await.expect("a client").timeout(TIMEOUT).bearer(token("good"));
    let load = Load::start(options.pick(250, 50), TIMEOUT + options.grace(), move |_| {
        let caller = caller.clone();
        async move { call(&caller, "auth.guarded", &()).await }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let instances = Arc::new(instances(&nats).await);
    let mut families = Vec::new();
    for number in 0..FAMILIES {
        families.push(tokio::spawn(keep_refreshing(instances.clone(), number, stop.clone())));
    }
    load.wait_for_answers(options.pick(500, 50), Duration::from_secs(10)).await;

    let revoker = revoker(&connection).await;
    let killed = Instant::now();
    nodes.kill(&lost);
    // A log-out in the middle of it: it takes as long as the election does.
    let revoked = until(ELECTION_LIMIT, async || revoker.session("gone").await.is_ok()).await;
    let outage = killed.elapsed();
    let refused = until(ELECTION_LIMIT, async || guard.verify(&token("gone")).err() == Some(Refusal::Revoked)).await;
    load.wait_for_answers(options.pick(1_000, 50), Duration::from_secs(10)).await;
    stop.store(true, Ordering::SeqCst);
    let mut tally = Tally::default();
    for family in families {
        tally.add(soon(family).await.expect("a family does not panic"));
    }
    nodes.restart(&lost);
    load.wait_for_answers(options.pick(500, 50), Duration::from_secs(10)).await;
    let calls = load.finish().await;
    soon(service.stop()).await;

    vec![
        Row::new(
            "kill -9 of the leader of both buckets: refreshes",
            "one successor a round, no session lost",
            tally.one_successor(FAMILIES as u64),
            format!("{} rounds, {tally}, longest {:.1} s", grouped(tally.rounds), tally.longest().as_secs_f64()),
        ),
        Row::new(
            "the same: guarded calls",
            "0 x 503",
            calls.busy == 0 && calls.answered > calls.lost(),
            format!("{} of {} answered{}", grouped(calls.answered), grouped(calls.offered), calls.losses()),
        ),
        Row::new(
            "the same: a log-out",
            "it is made and refused everywhere",
            revoked.is_some() && refused.is_some(),
            format!("made after {:.1} s", outage.as_secs_f64()),
        ),
    ]
}

/// Refreshes one session after its answer, until it is told to stop.
async fn keep_refreshing(instances: Arc<Vec<Sessions>>, number: usize, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    let owner = Owner::new(format!("u{number}"), "k");
    let begun = soon(instances[0].create(owner)).await.expect("a session");
    let mut current = begun.refresh_token;
    while !stop.load(Ordering::SeqCst) {
        match round(&instances, &current, AT_ONCE, &mut tally).await {
            Some(successor) => current = successor,
            None => break,
        }
        // A client refreshes when it has to, and not all the time.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tally
}

/// Creates both buckets on all three nodes; the cluster may still be electing the leader that creates them.
async fn provision(jetstream: &jetstream::Context) {
    let ready = until(ELECTION_LIMIT, async || {
        Sessions::provision(jetstream, 3).await.is_ok() && Revoker::provision(jetstream, 3).await.is_ok()
    });
    ready.await.expect("two buckets on three nodes");
}

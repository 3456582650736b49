//! Kills the node that leads every bucket of auth: no session may end, and no guard may reject valid tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use nats_rpc::prelude::*;
use nats_rpc::{Client, Code, NatsConfig, ServiceHandle};
use nats_rpc_jwt::JwtRejection;
use nats_rpc_jwt::prelude::*;
use serde_json::{Value, json};
use users::Replicas;

use super::refreshes::{AT_ONCE, Tally, Tried, round};
use super::revocations::guard;
use super::{ACCESS_SECRET, INSTANCES, REFRESH_SECRET, open, revoker, token};
use crate::chaos::Options;
use crate::chaos::load::{Load, call};
use crate::chaos::report::Row;
use crate::chaos::stage::{grouped, soon, until};
use crate::nodes::{ELECTION_LIMIT, Nodes, leader};

const SESSIONS: &str = "KV_auth_sess";
/// The other streams that a refresh needs.
const OTHERS: [&str; 2] = ["KV_auth_rev", "KV_auth_users"];
/// Number of sessions that are refreshed throughout, each by several clients at once.
const FAMILIES: usize = 2;
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
    for other in OTHERS {
        let moved = until(ELECTION_LIMIT, async || {
            // The node to be killed must lead all of them.
            let preferred = json!({ "placement": { "preferred": lost } });
            let subject = format!("STREAM.LEADER.STEPDOWN.{other}");
            let _: Result<Value, _> = jetstream.request(subject, &preferred).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            leader(&jetstream, other).await == lost
        });
        moved.await.expect("a leader moves where it should");
    }

    let guard = guard(&nats).await;
    let service = Service::new("guarded", "1.0.0").handlers(handlers![guarded]).guard(guard.clone());
    let service = soon(service.start(nats.clone())).await.expect("a service");
    let caller = soon(Client::connect(&nats)).await.expect("a client").timeout(TIMEOUT).bearer(token("good"));
    let load = Load::start(options.pick(250, 50), TIMEOUT + options.grace(), move |_| {
        let caller = caller.clone();
        async move { call(&caller, "auth.guarded", &()).await }
    });
    let stop = Arc::new(AtomicBool::new(false));
    let auth = auth_services(&nats).await;
    let clients = Arc::new(clients(&nats).await);
    let mut families = Vec::new();
    for number in 0..FAMILIES {
        families.push(tokio::spawn(keep_refreshing(clients.clone(), number, stop.clone())));
    }
    load.wait_for_answers(options.pick(500, 50), Duration::from_secs(10)).await;

    let revoker = revoker(&connection).await;
    let killed = Instant::now();
    nodes.kill(&lost);
    // A log-out during the election takes as long as the election.
    let revoked = until(ELECTION_LIMIT, async || revoker.session("gone").await.is_ok()).await;
    let outage = killed.elapsed();
    let refused =
        until(ELECTION_LIMIT, async || guard.verify(&token("gone")).err() == Some(JwtRejection::Revoked)).await;
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
    for instance in auth {
        soon(instance.stop()).await;
    }

    vec![
        Row::new(
            format!(
                "kill -9 of the leader of all buckets: rounds x {AT_ONCE} x auth.refresh over {INSTANCES} connections"
            ),
            "one successor a round, no session lost",
            tally.one_successor(options.pick(50, 2)),
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

/// Starts instances of the auth service, each on a connection of its own.
async fn auth_services(nats: &NatsConfig) -> Vec<ServiceHandle> {
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let service = auth::service(|name| match name {
            "JWT_SECRET" => Some(ACCESS_SECRET.to_owned()),
            "JWT_REFRESH_SECRET" => Some(REFRESH_SECRET.to_owned()),
            "BCRYPT_COST" => Some("10".to_owned()),
            _ => None,
        });
        instances.push(soon(Box::pin(service.start(nats.clone()))).await.expect("the auth service"));
    }
    instances
}

/// Connects callers, each on a connection of its own.
async fn clients(nats: &NatsConfig) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..INSTANCES {
        clients.push(soon(Client::connect(nats)).await.expect("a client").timeout(TIMEOUT));
    }
    clients
}

/// Refreshes one session repeatedly, until `stop` is set.
async fn keep_refreshing(clients: Arc<Vec<Client>>, number: usize, stop: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    let credentials = json!({ "email": format!("u{number}@example.com"), "password": "correct horse battery" });
    let begun: Value = soon(clients[0].send("auth.signup", &credentials)).await.expect("a session");
    let mut current = successor(&begun);
    let refresh = move |number: usize, token: String| {
        let client = clients[number % clients.len()].clone();
        async move {
            match client.send::<Value>("auth.refresh", &json!({ "refreshToken": token })).await {
                Ok(answer) => Tried::Successor(successor(&answer)),
                Err(error) if error.code() == Some(Code::Unauthenticated) => Tried::Refused,
                Err(_) => Tried::Again,
            }
        }
    };
    while !stop.load(Ordering::SeqCst) {
        match round(refresh.clone(), &current, AT_ONCE, &mut tally).await {
            Some(successor) => current = successor,
            None => break,
        }
        // Real clients refresh when they have to, not continuously.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tally
}

fn successor(answer: &Value) -> String {
    answer["refreshToken"].as_str().expect("a refresh token").to_owned()
}

/// Creates the buckets on all three nodes; the cluster may still be electing the leader that creates them.
async fn provision(jetstream: &jetstream::Context) {
    let three = Replicas::from_vars(|_| Some("3".to_owned())).expect("three");
    let ready = until(ELECTION_LIMIT, async || Box::pin(auth::provision(jetstream, three)).await.is_ok());
    ready.await.expect("buckets on three nodes");
}

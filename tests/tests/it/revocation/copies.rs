//! Copies of the bucket that are behind, or cut off: they prove nothing, and un-revoke nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use nats_rpc_tests::nodes::{ELECTION_LIMIT, Nodes, leader};
use nats_rpc_tests::server_with;

use super::*;

const STREAM: &str = "KV_auth_rev";

fn guard_of(revocations: &Revocations) -> JwtGuard<UserClaims> {
    JwtGuard::new(JwtConfig::hs256(secret()).revocations(revocations.clone())).unwrap()
}

/// Two of three nodes die. The third goes on answering what its own copy holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_cut_off_from_the_others_proves_nothing() {
    let mut nodes = Nodes::start();
    let connection = Connection::open(&NatsConfig::new(nodes.urls())).await.unwrap();
    let provisioned = async {
        while Revoker::provision(&connection.jetstream(), 3).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(ELECTION_LIMIT, provisioned).await.unwrap();
    let jetstream = connection.jetstream();
    // One that does not lead, and from which the guard reads: to lose who delivers is another fault. nats-server
    // puts a consumer on any of the three, so there is another one until it is where it should be.
    let leader = leader(&jetstream, STREAM).await;
    let left = nodes.names().find(|name| *name != leader).unwrap();
    let there = Connection::open(&NatsConfig::new(nodes.url(&left))).await.unwrap();
    let following = async {
        loop {
            let revocations = soon(Revocations::watch_within(&there, SECOND)).await.unwrap();
            if delivers(&jetstream).await.as_ref() == Some(&left) {
                break revocations;
            }
        }
    };
    let following = tokio::time::timeout(ELECTION_LIMIT, following).await;
    let revocations = following.expect("no consumer is put on the node that is to be left");
    let guard = guard_of(&revocations);
    let good = token("u1", "s1", 0, 0);
    until(async || guard.verify(&good).is_ok()).await;

    for other in nodes.names().filter(|name| *name != left).collect::<Vec<_>>() {
        nodes.kill(&other);
    }
    until(async || guard.verify(&good).err() == Some(JwtRejection::StaleRevocations)).await;
    // Sooner or later it answers for the group, and says that this has no leader.
    let stream = there.jetstream().get_stream_no_info(STREAM).await.unwrap();
    let mut answers = 0;
    let answering = async {
        // As many as are asked for within the bound, several times over.
        while answers < 12 {
            let info = stream.get_info().await.ok();
            answers += u32::from(info.is_some_and(|info| info.cluster.unwrap().leader.is_none()));
            assert_eq!(guard.verify(&good).err(), Some(JwtRejection::StaleRevocations), "after {answers} answers");
            tokio::time::sleep(SECOND / 4).await;
        }
    };
    tokio::time::timeout(ELECTION_LIMIT, answering).await.expect("it does not answer");

    for other in nodes.names().filter(|name| *name != left).collect::<Vec<_>>() {
        nodes.restart(&other);
    }
    let reopening = async {
        while guard.verify(&good).is_err() {
            tokio::time::sleep(SECOND / 20).await;
        }
    };
    // An attempt to read it that was under way has to end first.
    tokio::time::timeout(2 * ELECTION_LIMIT, reopening).await.expect("nobody leads again");
}

/// The node that the newest consumer is on, if that is told.
async fn delivers(jetstream: &async_nats::jetstream::Context) -> Option<String> {
    let stream = jetstream.get_stream(STREAM).await.unwrap();
    let consumers: Vec<_> = stream.consumers().map(Result::unwrap).collect().await;
    consumers.into_iter().max_by_key(|consumer| consumer.created)?.cluster?.leader
}

/// The server stands for a copy that is behind, and the test for the leader that has more.
#[tokio::test]
async fn what_is_read_anew_from_a_copy_that_is_behind_revokes_no_less_than_before() {
    let config = format!(
        "accounts {{ A {{ jetstream: enabled, users: [{{ user: a, password: a }}],
           mappings: {{ \"$JS.API.STREAM.MSG.GET.{STREAM}\": \"leader\" }} }} }}
         no_auth_user: a"
    );
    let server = server_with(|builder| builder.config(config));
    let connection = connect(&server).await;
    let last = Arc::new(AtomicU64::new(2));
    let asked = leads(&server, last.clone()).await;
    let jetstream = connection.jetstream();
    Revoker::provision(&jetstream, 1).await.unwrap();
    Revoker::open(&connection).await.unwrap().session("s1").await.unwrap();
    let revocations = soon(Revocations::watch_within(&connection, SECOND)).await.unwrap();
    let guard = guard_of(&revocations);
    let (revoked, good) = (token("u1", "s1", 0, 0), token("u1", "s2", 0, 0));
    assert_eq!(guard.verify(&revoked).err(), Some(JwtRejection::Revoked));
    assert!(guard.verify(&good).is_ok());

    // All that it has is the beginning.
    jetstream.delete_key_value("auth_rev").await.unwrap();
    let before = asked.load(Ordering::SeqCst);
    Revoker::provision(&jetstream, 1).await.unwrap();
    // With the third question, a first reading has begun and ended.
    until(async || {
        assert_eq!(guard.verify(&revoked).err(), Some(JwtRejection::Revoked));
        asked.load(Ordering::SeqCst) >= before + 3
    })
    .await;
    assert_eq!(guard.verify(&good).err(), Some(JwtRejection::StaleRevocations));
    // No: that is all there is.
    last.store(1, Ordering::SeqCst);
    until(async || guard.verify(&good).is_ok() && guard.verify(&revoked).is_ok()).await;
}

/// Answers which the `last` message is, in the place of the leader; counts how often that was asked.
async fn leads(server: &NatsServer, last: Arc<AtomicU64>) -> Arc<AtomicU64> {
    let nats = crate::support::foreign(server).await;
    let mut questions = nats.subscribe("leader").await.unwrap();
    nats.flush().await.unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            count.fetch_add(1, Ordering::SeqCst);
            let (subject, seq) = ("$KV.auth_rev.sid.s1", last.load(Ordering::SeqCst));
            let message =
                serde_json::json!({ "subject": subject, "seq": seq, "data": "e30=", "time": "2027-01-01T00:00:00Z" });
            let answer = serde_json::json!({ "message": message }).to_string();
            nats.publish(question.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    asked
}

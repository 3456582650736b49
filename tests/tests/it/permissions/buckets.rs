//! JetStream: who reads and writes which bucket, and who creates streams.

use async_nats::jetstream::{self, stream};
use nats_rpc_tests::secured::Secured;

use super::{Intruder, USERS};
use crate::deployed::provision;
use crate::support::soon;

/// Every bucket, and who writes it.
const WRITERS: [(&str, &[&str]); 5] = [
    ("auth_users", &["auth"]),
    ("auth_sess", &["auth"]),
    ("auth_backoff", &["auth"]),
    ("auth_reset", &["auth"]),
    ("users", &["auth", "users"]),
];

#[tokio::test]
async fn a_bucket_is_read_and_written_by_those_named_for_it() {
    let secured = Secured::start();
    provision(&secured).await;
    for user in USERS {
        let mut intruder = Intruder::connect(&secured, user).await;
        let jetstream = jetstream::new(intruder.nats.clone());
        for (bucket, writers) in WRITERS {
            let subject = format!("$KV.{bucket}.{user}");
            let get = format!("$JS.API.STREAM.MSG.GET.KV_{bucket}");
            if writers.contains(&user) {
                let acknowledged = soon(jetstream.publish(subject.clone(), "{}".into())).await.unwrap();
                soon(acknowledged.into_future()).await.unwrap();
                let query = format!("{{\"last_by_subj\":\"{subject}\"}}");
                let answer = soon(intruder.nats.request(get, query.into())).await.unwrap();
                assert!(String::from_utf8_lossy(&answer.payload).contains("\"seq\""), "{answer:?}");
            } else {
                intruder.may_not_publish(&subject).await;
                intruder.may_not_publish(&get).await;
            }
        }
    }
}

#[tokio::test]
async fn nobody_but_deploy_creates_streams_and_deploy_only_its_own() {
    let secured = Secured::start();
    provision(&secured).await;
    for user in USERS {
        let mut intruder = Intruder::connect(&secured, user).await;
        for forbidden in [
            "STREAM.CREATE.evil",
            "STREAM.UPDATE.evil",
            "STREAM.DELETE.KV_users",
            "STREAM.PURGE.KV_users",
            "STREAM.MSG.DELETE.KV_users",
            "STREAM.RESTORE.KV_users",
            "STREAM.SNAPSHOT.KV_users",
            "STREAM.NAMES",
            "CONSUMER.CREATE.KV_users",
            "CONSUMER.CREATE.KV_users.spy",
            "CONSUMER.CREATE.KV_users.spy.$KV.users.>",
            "CONSUMER.DURABLE.CREATE.KV_users.spy",
            "CONSUMER.MSG.NEXT.KV_users.spy",
            "DIRECT.GET.KV_users",
            "DIRECT.GET.KV_users.$KV.users.x",
        ] {
            intruder.may_not_publish(&format!("$JS.API.{forbidden}")).await;
        }
        let jetstream = jetstream::new(intruder.nats.clone());
        match user {
            "deploy" => {
                let config = stream::Config {
                    name: "KV_users".to_owned(),
                    subjects: vec!["$KV.users.>".to_owned()],
                    ..soon(jetstream.get_stream("KV_users")).await.unwrap().cached_info().config.clone()
                };
                soon(jetstream.update_stream(config)).await.unwrap();
            }
            _ => {
                intruder.may_not_publish("$JS.API.STREAM.CREATE.KV_users").await;
                intruder.may_not_publish("$JS.API.STREAM.UPDATE.KV_users").await;
            }
        }
    }
}

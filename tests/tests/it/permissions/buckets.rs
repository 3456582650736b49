//! JetStream: who reads and writes which bucket, and who creates streams.

use async_nats::jetstream::{self, kv, stream};
use nats_rpc_tests::secured::{Layout, Secured};

use super::Intruder;
use crate::support::soon;

/// Every bucket, who writes it, and who else reads it.
const BUCKETS: [(&str, &[&str], &[&str]); 9] = [
    ("auth_users", &["auth"], &[]),
    ("auth_sess", &["auth"], &[]),
    ("auth_services", &["auth"], &[]),
    ("auth_backoff", &["auth"], &[]),
    ("auth_reset", &["auth"], &[]),
    ("auth_jwks", &["auth"], &["users", "gateway", "verifier"]),
    ("auth_rev", &["auth"], &["users", "gateway", "verifier"]),
    ("gw_jwks", &["auth"], &["users", "verifier"]),
    ("users", &["auth", "users"], &[]),
];

#[tokio::test]
async fn a_bucket_is_read_and_written_by_those_named_for_it() {
    for layout in Layout::ALL {
        bucket_is_read_and_written_by_those_named_for_it(layout).await;
    }
}

async fn bucket_is_read_and_written_by_those_named_for_it(layout: Layout) {
    let secured = Secured::start_with(layout);
    create_all(&secured).await;
    for user in layout.users() {
        let user = user.as_str();
        let mut intruder = Intruder::connect(&secured, user).await;
        let jetstream = jetstream::new(intruder.nats.clone());
        for (bucket, writers, readers) in BUCKETS {
            let subject = format!("$KV.{bucket}.{user}");
            // The gateway writes one key of it, see below.
            if (bucket, user) == ("gw_jwks", "gateway") {
                continue;
            }
            let api = api(layout, user, bucket);
            let get = format!("{api}.STREAM.MSG.GET.KV_{bucket}");
            let nats = intruder.nats.clone();
            let last = async |subject: &str| {
                let query = format!("{{\"last_by_subj\":\"{subject}\"}}");
                let answer = soon(nats.request(get.clone(), query.into())).await.unwrap();
                assert!(String::from_utf8_lossy(&answer.payload).contains("\"seq\""), "{answer:?}");
            };
            if writers.contains(&user) {
                let acknowledged = soon(jetstream.publish(subject.clone(), "{}".into())).await.unwrap();
                soon(acknowledged.into_future()).await.unwrap();
                last(&subject).await;
            } else {
                intruder.may_not_publish(&subject).await;
                if readers.contains(&user) {
                    last(&format!("$KV.{bucket}.>")).await;
                    let info = soon(nats.request(format!("{api}.STREAM.INFO.KV_{bucket}"), "".into())).await.unwrap();
                    assert!(String::from_utf8_lossy(&info.payload).contains("\"state\""), "{info:?}");
                } else {
                    // Who creates a ring reads it, to put an unusable one right.
                    if user != layout.deploys_auth() || !bucket.ends_with("_jwks") {
                        intruder.may_not_publish(&get).await;
                    }
                    if !user.starts_with("deploy") {
                        intruder.may_not_publish(&format!("$JS.API.STREAM.INFO.KV_{bucket}")).await;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_gateway_writes_the_ring_of_its_own_keys_and_no_other_key_or_ring() {
    for layout in Layout::ALL {
        gateway_writes_its_ring_alone(layout).await;
    }
}

async fn gateway_writes_its_ring_alone(layout: Layout) {
    let secured = Secured::start_with(layout);
    create_all(&secured).await;
    let mut gateway = Intruder::connect(&secured, "gateway").await;
    for forbidden in ["$KV.gw_jwks.rotate", "$KV.auth_jwks.ring", "$JS.API.CONSUMER.CREATE.KV_gw_jwks"] {
        gateway.may_not_publish(forbidden).await;
    }
    let jetstream = jetstream::new(gateway.nats.clone());
    let written = soon(jetstream.publish("$KV.gw_jwks.ring", "{}".into())).await.unwrap();
    soon(written.into_future()).await.unwrap();
}

#[tokio::test]
async fn nobody_but_deploy_creates_streams_and_deploy_only_its_own() {
    for layout in Layout::ALL {
        only_deploy_creates_streams(layout).await;
    }
}

async fn only_deploy_creates_streams(layout: Layout) {
    let secured = Secured::start_with(layout);
    create_all(&secured).await;
    for user in layout.users() {
        let mut intruder = Intruder::connect(&secured, &user).await;
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
        match user.as_str() {
            "deploy" => {
                let stream = soon(jetstream.get_stream("KV_users")).await.unwrap();
                let config: stream::Config = stream.cached_info().config.clone();
                soon(jetstream.update_stream(config)).await.unwrap();
            }
            _ => {
                intruder.may_not_publish("$JS.API.STREAM.CREATE.KV_users").await;
                intruder.may_not_publish("$JS.API.STREAM.UPDATE.KV_users").await;
            }
        }
    }
}

/// The prefix of the API at which `user` finds `bucket`.
fn api(layout: Layout, user: &str, bucket: &str) -> &'static str {
    let is_of_services = bucket == "users";
    match (layout, user) {
        (Layout::Accounts, "auth") if is_of_services => "APPJS",
        (Layout::Accounts, "users" | "gateway" | "verifier") if !is_of_services => "AUTHJS",
        _ => "$JS.API",
    }
}

/// Creates every bucket as the user that may, with a key in it.
async fn create_all(secured: &Secured) {
    for (bucket, writers, _) in BUCKETS {
        let deploy = if bucket == "users" { "deploy" } else { secured.layout.deploys_auth() };
        let jetstream = jetstream::new(Intruder::connect(secured, deploy).await.nats);
        let config = kv::Config { bucket: bucket.to_owned(), ..kv::Config::default() };
        soon(jetstream.create_or_update_key_value(config)).await.unwrap();
        // In the account that has the bucket.
        let writer = jetstream::new(Intruder::connect(secured, writers.last().unwrap()).await.nats);
        let written = soon(writer.publish(format!("$KV.{bucket}.first"), "{}".into())).await.unwrap();
        soon(written.into_future()).await.unwrap();
    }
}

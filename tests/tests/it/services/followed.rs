//! What auth follows for several purposes, it follows once.

use async_nats::jetstream;
use futures::TryStreamExt;
use nats_rpc::ServiceHandle;

use super::*;
use crate::support::foreign;

/// The auth service alone, with these settings beside the secret that it needs.
async fn auth(server: &NatsServer, vars: &'static [(&'static str, &'static str)]) -> ServiceHandle {
    let service = ::auth::service(move |name| match name {
        "JWT_REFRESH_SECRET" => Some(REFRESH_SECRET.to_owned()),
        _ => vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
    });
    soon(service.start(nats(server))).await.unwrap()
}

#[tokio::test]
async fn auth_follows_each_ring_and_what_was_revoked_once() {
    let ring = [("auth_jwks", 1), ("gw_jwks", 1), ("auth_rev", 1)];
    let secret = [("auth_jwks", 0), ("gw_jwks", 0), ("auth_rev", 1)];
    for (vars, expected) in [
        (&[][..], ring),
        (&[("JWT_ACCEPT_ASSERTIONS", "true")], ring),
        (&[("JWT_CHECK_REVOCATIONS", "false")], ring),
        (&[("JWT_SECRET", SECRET), ("JWT_ASSERTION_SECRET", ASSERTION_SECRET), ("JWT_ACCEPT_ASSERTIONS", "1")], secret),
    ] {
        let server = server();
        let jetstream = jetstream::new(foreign(&server).await);
        ::auth::provision(&jetstream, ::users::Replicas::ONE).await.unwrap();
        let auth = auth(&server, vars).await;
        for (bucket, consumers) in expected {
            let stream = jetstream.get_stream(format!("KV_{bucket}")).await.unwrap();
            let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
            assert_eq!(names.len(), consumers, "{bucket} with {vars:?}: {names:?}");
        }
        soon(auth.stop()).await;
    }
}

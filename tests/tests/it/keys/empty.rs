//! Rings that hold no key to verify with.

use nats_rpc::prelude::*;
use nats_rpc::{Client, NotReady, ServiceHandle, Status};
use nats_rpc_jwt::prelude::*;

use super::*;
use crate::support::client;

#[message_pattern("who.empty")]
#[use_guards(JwtGuard)]
async fn who(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

async fn service(server: &NatsServer, verifier: &Connection) -> ServiceHandle {
    let service = Service::new("empty", "1.0.0").handlers(handlers![who]).guard(guard(verifier).await);
    soon(service.start(nats(server))).await.unwrap()
}

/// The code that a call with `token` ends with; 200 for a success.
async fn call(client: &Client, token: &str) -> u16 {
    match soon(client.bearer(token).send::<String>("who.empty", &())).await {
        Ok(_) => 200,
        Err(nats_rpc::CallError::Remote(error)) => error.status(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_empty_ring_is_503_and_not_ready_until_its_first_key() {
    let server = provisioned().await;
    let (connection, client) = (connect(&server).await, client(&server).await);
    let running = service(&server, &connect(&server).await).await;
    // A good token of another system's auth; what a client has from before the bucket was made anew.
    let other = provisioned().await;
    let earlier = issue(&keys(&connect(&other).await, config()).await);
    assert_eq!(call(&client, &earlier).await, 503);
    assert_eq!(call(&client, "e30.e30.AAAA").await, 401, "this is no token, whatever the ring holds");
    assert!(matches!(running.check(PATIENCE).await, Err(NotReady::Dependency(_))));
    let mut status = running.status();
    assert_eq!(*status.borrow_and_update(), Status::NotReady);

    let keys = keys(&connection, config()).await;
    soon(status.wait_for(|status| *status == Status::Ready)).await.unwrap();
    running.check(PATIENCE).await.unwrap();
    assert_eq!(call(&client, &issue(&keys)).await, 200);
    assert_eq!(call(&client, &earlier).await, 401, "now it is known to be of no key of this system");
}

#[tokio::test]
async fn a_service_of_secrets_is_ready_at_once() {
    let server = provisioned().await;
    let guard =
        || JwtGuard::<UserClaims>::new(JwtConfig::hs256(nats_rpc_jwt::SecretKey::new("S", [7; 32]).unwrap())).unwrap();
    let service = Service::new("secret", "1.0.0").handlers(handlers![who]).guard(guard());
    let running = soon(service.start(nats(&server))).await.unwrap();
    assert_eq!(*running.status().borrow(), Status::Ready);
    running.check(PATIENCE).await.unwrap();
}

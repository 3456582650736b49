//! A gateway's word for a caller, signed with a key of its own.

use std::time::SystemTime;

use nats_rpc::prelude::*;
use nats_rpc::{Client, Service, ServiceHandle};
use nats_rpc_jwt::AssertionSigner;
use nats_rpc_jwt::prelude::*;

use super::*;

const SUBJECT: &str = "keys.vouched";

#[message_pattern("keys.vouched")]
#[use_guards(JwtGuard)]
async fn vouched(Auth(me): Auth<UserClaims>, Payload(payload): Payload<Value>) -> Value {
    json!({ "sub": me.sub, "payload": payload })
}

#[message_pattern("keys.other")]
#[use_guards(JwtGuard)]
async fn other() {}

struct World {
    _service: ServiceHandle,
    client: Client,
    keys: SigningKeys,
    server: NatsServer,
}

impl World {
    async fn new(accepts: &'static str) -> Self {
        let server = provisioned().await;
        let vars = move |name: &str| (name == "JWT_ACCEPT_ASSERTIONS").then(|| accepts.to_owned());
        let service = Service::new("vouched", "1.0.0")
            .handlers(handlers![vouched, other])
            .guard(move |config| JwtGuard::from_vars(config, vars));
        let service = service.start(nats(&server)).await.unwrap();
        let connection = connect(&server).await;
        let keys =
            keys(&connection, SigningKeyConfig::new(KeyPurpose::Assertions).activation_delay(Duration::ZERO)).await;
        let client = Client::new(connection.clone()).timeout(PATIENCE);
        Self { _service: service, client, keys, server }
    }

    fn sign(&self, change: impl FnOnce(AssertionSigner) -> AssertionSigner, body: &Value) -> String {
        let signer = change(self.keys.assertion_signer());
        signer.sign(&UserClaims::new("u1"), SUBJECT, body.to_string().as_bytes()).unwrap()
    }

    async fn ask(&self, assertion: &str, subject: &str, body: &Value) -> Option<Code> {
        let client = self.client.header("nrpc-assert", assertion);
        match client.send::<Value>(subject, body).await {
            Ok(answer) => {
                assert_eq!(answer["sub"], "u1");
                None
            }
            Err(error) => Some(error.code().unwrap()),
        }
    }
}

#[tokio::test]
async fn an_assertion_is_good_for_one_subject_one_body_one_audience_one_use_and_some_seconds() {
    let world = World::new("true").await;
    let body = json!({ "a": 1 });
    let same = |signer: AssertionSigner| signer;
    let refused = Some(Code::Unauthenticated);

    let once = world.sign(same, &body);
    assert_eq!(world.ask(&once, SUBJECT, &body).await, None);
    assert_eq!(world.ask(&once, SUBJECT, &body).await, refused, "a replay");
    assert_eq!(world.ask(&world.sign(same, &body), "keys.other", &body).await, refused, "another subject");
    assert_eq!(world.ask(&world.sign(same, &body), SUBJECT, &json!({ "a": 2 })).await, refused, "another body");
    let elsewhere = world.sign(|signer| signer.audience("elsewhere"), &body);
    assert_eq!(world.ask(&elsewhere, SUBJECT, &body).await, refused, "another audience");
    let late = || SystemTime::now() - Duration::from_secs(16);
    assert_eq!(world.ask(&world.sign(|signer| signer.clock(late), &body), SUBJECT, &body).await, refused, "expired");
    assert_eq!(world.ask(&world.sign(same, &body), SUBJECT, &body).await, None, "the next one is good");
}

#[tokio::test]
async fn who_writes_the_ring_of_gateways_makes_no_access_token_and_auth_no_assertion() {
    let world = World::new("true").await;
    let body = json!({});
    let access = keys(&connect(&world.server).await, config()).await;
    assert_eq!(world.client.bearer(issue(&access)).send::<Value>(SUBJECT, &body).await.unwrap()["sub"], "u1");
    // The right claims, signed with keys of the other ring.
    let forged = TokenIssuer::ring(&world.keys).issue(&Grant::new("u1", "s1")).unwrap();
    let error = world.client.bearer(forged).send::<Value>(SUBJECT, &body).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unauthenticated));
    let forged = access.assertion_signer().sign(&UserClaims::new("u1"), SUBJECT, b"{}").unwrap();
    assert_eq!(world.ask(&forged, SUBJECT, &body).await, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_service_that_was_not_told_to_takes_no_assertion() {
    let world = World::new("").await;
    let body = json!({});
    assert_eq!(world.ask(&world.sign(|signer| signer, &body), SUBJECT, &body).await, Some(Code::Unauthenticated));
}

#[tokio::test]
async fn a_gateways_retired_key_vouches_for_nobody_and_its_next_one_does() {
    let world = World::new("true").await;
    let body = json!({});
    let stolen = world.keys.kid().unwrap();
    let ring = JwksBucket::open(world.client.connection(), KeyPurpose::Assertions).await.unwrap();
    assert_eq!(world.ask(&world.sign(|signer| signer, &body), SUBJECT, &body).await, None);
    let kept = world.sign(|signer| signer, &body);
    ring.retire(&stolen).await.unwrap();
    soon(async {
        while ring.list().await.unwrap().iter().all(|key| key.kid == stolen) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(async {
        while world.keys.kid().is_none_or(|kid| kid == stolen) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.ask(&kept, SUBJECT, &body).await, Some(Code::Unauthenticated));
    assert_eq!(world.ask(&world.sign(|signer| signer, &body), SUBJECT, &body).await, None);
}

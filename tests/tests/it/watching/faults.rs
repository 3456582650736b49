//! Cuts, and elections.

use nats_rpc_tests::nodes::{ELECTION_LIMIT, Nodes, leader};
use nats_rpc_tests::proxy::{Proxy, Which};

use super::*;

#[tokio::test]
async fn revocation_during_a_cut_is_known_after_it() {
    let world = World::new().await;
    let proxy = Proxy::to(world.server.port()).start().await.unwrap();
    let verifier = Verifier::new(&without_consumers(NatsConfig::new(proxy.url())), 30 * SECOND).await;
    let (first, second) = (world.token("s1"), world.token("s2"));
    until(|| verifier.guard.verify(&first).is_ok()).await;
    proxy.freeze(Which::All);
    world.revoker.session("s1").await.unwrap();
    proxy.cut(Which::All).await;
    proxy.resume(Which::All);
    until(|| verifier.refuses(&first)).await;
    assert!(verifier.guard.verify(&second).is_ok());
    world.revoker.session("s2").await.unwrap();
    until(|| verifier.refuses(&second)).await;
}

/// Through a cut that lasts, guards close; after it they open.
#[tokio::test]
async fn guard_closes_while_it_hears_nothing() {
    let world = World::new().await;
    let proxy = Proxy::to(world.server.port()).start().await.unwrap();
    let verifier = Verifier::new(&without_consumers(NatsConfig::new(proxy.url())), SECOND).await;
    let token = world.token("s1");
    until(|| verifier.guard.verify(&token).is_ok()).await;
    proxy.freeze(Which::All);
    until(|| verifier.guard.verify(&token).err() == Some(JwtRejection::StaleRevocations)).await;
    proxy.cut(Which::All).await;
    proxy.resume(Which::All);
    until(|| verifier.guard.verify(&token).is_ok()).await;
}

#[tokio::test]
async fn bucket_made_anew_is_read_anew() {
    let world = World::new().await;
    let verifier = world.verifier().await;
    let (before, after) = (world.token("s1"), world.token("s2"));
    world.revoker.session("s1").await.unwrap();
    until(|| verifier.refuses(&before)).await;
    let jetstream = world.jetstream().await;
    jetstream.delete_key_value("auth_rev").await.unwrap();
    Revoker::provision(&jetstream, 1).await.unwrap();
    // What the new one does not hold is no longer revoked.
    until(|| verifier.guard.verify(&before).is_ok()).await;
    world.revoker.session("s2").await.unwrap();
    until(|| verifier.refuses(&after)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn election_closes_no_guard_and_loses_no_revocation() {
    let mut nodes = Nodes::start();
    let config = without_consumers(NatsConfig::new(nodes.urls()));
    let connection = Connection::open(&config).await.unwrap();
    let jetstream = connection.jetstream();
    let provisioned = async {
        while Revoker::provision(&jetstream, 3).await.is_err() {
            tokio::time::sleep(SECOND / 10).await;
        }
        provision(&jetstream, 3).await;
    };
    tokio::time::timeout(ELECTION_LIMIT, provisioned).await.unwrap();
    let config_of_keys = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO);
    let keys = soon(SigningKeys::open(&connection, config_of_keys)).await.unwrap();
    let signer = ChangeSigner::keys(&keys);
    let revoker = Revoker::open(&connection).await.unwrap().signed_by(&signer);
    let _beacon = TrustBeacon::start(&connection, &signer).await.unwrap();
    let verifier = Verifier::new(&config, 30 * SECOND).await;
    let token = |sid: &str| TokenIssuer::ring(&keys).issue(&Grant::new("u1", sid)).unwrap();
    let (good, revoked) = (token("s0"), token("s1"));
    until(|| verifier.guard.verify(&good).is_ok()).await;

    nodes.kill(&leader(&jetstream, "KV_auth_rev").await);
    let began = std::time::Instant::now();
    let revoking = async {
        while revoker.session("s1").await.is_err() {
            assert!(verifier.guard.verify(&good).is_ok(), "closed {:?} after the leader's death", began.elapsed());
            tokio::time::sleep(SECOND / 10).await;
        }
    };
    tokio::time::timeout(ELECTION_LIMIT, revoking).await.unwrap();
    let seen = async {
        while !verifier.refuses(&revoked) {
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    tokio::time::timeout(ELECTION_LIMIT, seen).await.expect("the revocation is lost");
    assert!(verifier.guard.verify(&good).is_ok());
}

//! Key rings: a beacon says that they have changed, and they are read.

use super::*;

#[tokio::test]
async fn retired_key_is_refused_within_moments_without_a_consumer() {
    let world = World::new().await;
    let verifiers = [world.verifier().await, world.verifier().await];
    let token = world.token("s1");
    until(|| verifiers.iter().all(|it| it.guard.verify(&token).is_ok())).await;
    let bucket = JwksBucket::open(&world.connection, KeyPurpose::AccessTokens).await.unwrap();
    let kid = world.keys.kid().unwrap();
    bucket.retire(&kid).await.unwrap();
    until(|| verifiers.iter().all(|it| it.guard.verify(&token).err() == Some(JwtRejection::UnknownKeyId))).await;
    // The instance makes another key, which arrives as well.
    until(|| world.keys.kid().is_some_and(|now| now != kid)).await;
    let next = world.token("s2");
    until(|| verifiers.iter().all(|it| it.guard.verify(&next).is_ok())).await;
    assert_eq!(consumers(&world.connection.jetstream()).await, 0);
}

#[tokio::test]
async fn order_to_rotate_reaches_each_instance() {
    let world = World::new().await;
    let verifier = world.verifier().await;
    let before = world.keys.kid().unwrap();
    JwksBucket::open(&world.connection, KeyPurpose::AccessTokens).await.unwrap().rotate().await.unwrap();
    until(|| world.keys.kid().is_some_and(|now| now != before)).await;
    let token = world.token("s1");
    until(|| verifier.guard.verify(&token).is_ok()).await;
}

#[tokio::test]
async fn keys_of_gateways_are_announced_by_auth() {
    let world = World::new().await;
    let config = without_consumers(nats(&world.server));
    let follower = Connection::open(&config).await.unwrap();
    let ring = soon(KeyRing::watch(&follower, KeyPurpose::Peers)).await.unwrap();
    let gateway = Connection::open(&config).await.unwrap();
    let config = SigningKeyConfig::new(KeyPurpose::Peers).activation_delay(Duration::ZERO);
    let keys = soon(SigningKeys::open(&gateway, config)).await.unwrap();
    let kid = keys.kid().unwrap();
    until(|| format!("{ring:?}").contains(&kid)).await;
    let bucket = JwksBucket::open(&world.connection, KeyPurpose::Peers).await.unwrap();
    bucket.retire(&kid).await.unwrap();
    until(|| !format!("{ring:?}").contains(&kid)).await;
    assert_eq!(consumers(&world.connection.jetstream()).await, 0);
}

/// The services themselves, with an instance of auth that publishes the beacon.
#[tokio::test]
async fn services_watch_without_consumers() {
    let server = server();
    let nats = without_consumers(nats(&server));
    let options = ::demo::Options::new(nats.clone()).var("GATEWAY_TIMEOUT_MS", "30000").var("BCRYPT_COST", "10");
    let system = soon(::demo::System::start(options, &mut ::demo::Report::silent())).await.unwrap();
    let connection = Connection::open(&nats).await.unwrap();
    let client = nats_rpc::Client::new(connection.clone()).timeout(PATIENCE);
    let body = serde_json::json!({ "email": "ada@example.com", "password": "correct horse battery" });
    let signed_up: serde_json::Value = client.send("auth.signup", &body).await.unwrap();
    let text = |name: &str| signed_up[name].as_str().unwrap().to_owned();
    let (token, refresh) = (text("accessToken"), text("refreshToken"));
    let profile =
        async || client.bearer(&token).send::<serde_json::Value>("get_user_profile", &serde_json::json!({})).await;
    assert!(soon(profile()).await.is_ok());
    let beacons = foreign(&server).await;
    let mut heard = beacons.subscribe(BEACON).await.unwrap();
    for _ in 0..2 {
        soon(heard.next()).await.expect("auth publishes beacons for as long as it runs");
    }
    client.send::<()>("auth.logout", &serde_json::json!({ "refreshToken": refresh })).await.unwrap();
    soon(async {
        while profile().await.is_ok() {
            tokio::time::sleep(SECOND / 100).await;
        }
    })
    .await;
    assert_eq!(consumers(&connection.jetstream()).await, 0);
    system.stop().await;
}

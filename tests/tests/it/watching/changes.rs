//! Changes as they arrive: signed ones are applied, others are not.

use async_nats::HeaderMap;

use super::*;

const CHANGE: &str = "watch.auth_rev.sid.s1";

/// A change as nats-server would republish it.
fn headers(sequence: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Stream", "KV_auth_rev");
    headers.insert("Nats-Sequence", sequence.to_string());
    headers
}

#[tokio::test]
async fn signed_revocation_needs_no_consumer_and_no_read() {
    let world = World::new().await;
    let verifiers = [world.verifier().await, world.verifier().await, world.verifier().await];
    let (revoked, good) = (world.token("s1"), world.token("s2"));
    until(|| verifiers.iter().all(|it| it.guard.verify(&revoked).is_ok())).await;
    // All have heard a beacon, so none has a reason to ask.
    until(|| verifiers.iter().all(|it| it.age() < SECOND / 2)).await;
    drop(world.beacon);
    let asked = requests(&world.server).await;
    world.revoker.session("s1").await.unwrap();
    until(|| verifiers.iter().all(|it| it.refuses(&revoked))).await;
    assert!(verifiers.iter().all(|it| it.guard.verify(&good).is_ok()));
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the leader is asked nothing");
    assert_eq!(consumers(&world.connection.jetstream()).await, 0);
}

/// With the static secret, which both sides have.
#[tokio::test]
async fn secret_signs_revocations_and_beacons() {
    let server = server();
    provision(&jetstream::new(foreign(&server).await), 1).await;
    let config = without_consumers(nats(&server));
    let secret = nats_rpc_jwt::SecretKey::new("JWT_SECRET", [7; 32]).unwrap();
    let connection = Connection::open(&config).await.unwrap();
    let signer = ChangeSigner::secret(&secret);
    let beacon = TrustBeacon::start(&connection, &signer).await.unwrap();
    let revoker = Revoker::open(&connection).await.unwrap().signed_by(&signer);
    let vars = |name: &str| (name == "JWT_SECRET").then(|| "\u{7}".repeat(32));
    let verifier = Connection::open(&config).await.unwrap();
    let guard: JwtGuard = JwtGuard::new(soon(JwtConfig::load(&verifier, vars)).await.unwrap()).unwrap();
    let token = TokenIssuer::hs256(&secret).issue(&Grant::new("u1", "s1")).unwrap();
    assert!(guard.verify(&token).is_ok());
    drop(beacon);
    let asked = requests(&server).await;
    revoker.session("s1").await.unwrap();
    until(|| guard.verify(&token).err() == Some(JwtRejection::Revoked)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn forged_change_revokes_nothing_and_starts_no_read() {
    let world = World::new().await;
    let verifier = world.verifier().await;
    let token = world.token("s1");
    until(|| verifier.guard.verify(&token).is_ok() && verifier.age() < SECOND / 2).await;
    // A genuine change of another session, to be sent again under the wrong name.
    let nats = foreign(&world.server).await;
    let mut heard = nats.subscribe("watch.auth_rev.>").await.unwrap();
    // What comes back shows that the subscription is in force.
    nats.publish("watch.auth_rev.sid.s0", "nonsense".into()).await.unwrap();
    soon(heard.next()).await.unwrap();
    world.revoker.session("s0").await.unwrap();
    let genuine = soon(heard.next()).await.unwrap().payload;
    let before = requests(&world.server).await;
    let other = "k".repeat(43);
    let forged = [
        r#"{"until":9999999999}"#.to_owned(),
        format!(r#"{{"until":9999999999,"kid":"{}","sig":"AAAA"}}"#, world.keys.kid().unwrap()),
        format!(r#"{{"until":9999999999,"kid":"{other}","sig":"{}"}}"#, "A".repeat(86)),
        String::from_utf8(genuine.to_vec()).unwrap(),
        "nonsense".to_owned(),
        String::new(),
    ];
    for (n, forged) in forged.into_iter().enumerate() {
        nats.publish_with_headers(CHANGE, headers(100 + n as u64), forged.into()).await.unwrap();
    }
    nats.flush().await.unwrap();
    // The control, and at the same time the sign that all of them have arrived.
    let control = world.token("s2");
    world.revoker.session("s2").await.unwrap();
    until(|| verifier.refuses(&control)).await;
    assert!(verifier.guard.verify(&token).is_ok());
    let beacons = 3;
    // Auth itself asks once a bucket for a beacon; a key that nobody knows is looked for once.
    assert!(before.load(Ordering::SeqCst) <= beacons * 3 + 1, "{before:?}");
}

/// As an auth service of an earlier version writes them, or a command of an operator.
#[tokio::test]
async fn unsigned_revocation_is_read_from_the_bucket() {
    let world = World::new().await;
    let verifier = world.verifier().await;
    let token = world.token("s1");
    until(|| verifier.guard.verify(&token).is_ok()).await;
    Revoker::open(&world.connection).await.unwrap().session("s1").await.unwrap();
    until(|| verifier.refuses(&token)).await;
    let later = verifier.revocations.age().unwrap();
    assert!(later < 5 * SECOND, "{later:?}");
}

/// The stream does not republish it, as if the message were lost.
#[tokio::test]
async fn lost_change_is_read_and_the_list_is_not_fresh_before() {
    let world = World::new().await;
    let verifier = world.verifier().await;
    let (token, control) = (world.token("s1"), world.token("s2"));
    until(|| verifier.guard.verify(&token).is_ok()).await;
    let jetstream = world.jetstream().await;
    let stream = jetstream.get_stream("KV_auth_rev").await.unwrap();
    let with = stream.cached_info().config.clone();
    let without = jetstream::stream::Config { republish: None, ..with.clone() };
    jetstream.update_stream(without).await.unwrap();
    world.revoker.session("s1").await.unwrap();
    let written = std::time::Instant::now();
    loop {
        // Asked in this order: the age of a list that lacks it reaches back before it was written.
        let (is_refused, age) = (verifier.refuses(&token), verifier.age());
        if is_refused {
            break;
        }
        assert!(verifier.refuses(&token) || age + SECOND / 4 >= written.elapsed(), "{age:?} after {written:?}");
        assert!(written.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    jetstream.update_stream(with).await.unwrap();
    world.revoker.session("s2").await.unwrap();
    until(|| verifier.refuses(&control)).await;
}

/// Whoever may publish there sends as much as the connection takes.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "the rate is what the test shows")]
async fn flood_of_forged_messages_leaves_the_leader_alone() {
    const COUNT: u64 = 20_000;
    let world = World::new().await;
    let verifiers = [world.verifier().await, world.verifier().await];
    let token = world.token("s1");
    until(|| verifiers.iter().all(|it| it.guard.verify(&token).is_ok())).await;
    let nats = foreign(&world.server).await;
    let asked = requests(&world.server).await;
    let began = std::time::Instant::now();
    for n in 0..COUNT {
        let unknown = format!(r#"{{"until":9999999999,"kid":"k{}","sig":"{}"}}"#, n % 50, "A".repeat(86));
        nats.publish_with_headers(CHANGE, headers(n), unknown.into()).await.unwrap();
        nats.publish(BEACON, format!("k{n}.AAAA.{{}}").into()).await.unwrap();
        if n % 500 == 0 {
            nats.flush().await.unwrap();
        }
    }
    nats.flush().await.unwrap();
    let (seconds, count) = (began.elapsed().as_secs_f64(), asked.load(Ordering::SeqCst));
    println!("{} forged messages in {seconds:.1} s: {:.1} requests a second", 2 * COUNT, count as f64 / seconds);
    world.revoker.session("s1").await.unwrap();
    until(|| verifiers.iter().all(|it| it.refuses(&token))).await;
    // A beacon is three requests each two seconds. Each verifier reads each of two buckets once in that time at most.
    let most = 3.0 * (seconds / 2.0 + 2.0) + 2.0 * 2.0 * 2.0 * (seconds / 2.0 + 2.0);
    assert!((count as f64) < most, "{count} in {seconds} s");
}

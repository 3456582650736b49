//! Beacons: what they prove, and what happens without them.

use super::*;

#[tokio::test]
async fn forged_and_replayed_beacons_prove_nothing() {
    let mut world = World::new().await;
    let verifier = Verifier::new(&without_consumers(nats(&world.server)), 60 * SECOND).await;
    let nats = foreign(&world.server).await;
    let mut heard = nats.subscribe(BEACON).await.unwrap();
    let genuine = soon(heard.next()).await.unwrap().payload;
    let text = String::from_utf8(genuine.to_vec()).unwrap();
    until(|| verifier.age() < SECOND).await;
    world.beacon = None;
    let at = |text: &str| text.split("\"at\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let later = text.replace(&at(&text), "9999999999999");
    let other = format!("{}{}", &text[..44], &later[44..]);
    // Were one of them believed, the list would never become as old as this.
    until(|| {
        for beacon in [&text, &later, &other] {
            let (nats, beacon) = (nats.clone(), beacon.clone());
            tokio::spawn(async move { nats.publish(BEACON, beacon.into()).await });
        }
        verifier.age() > 4 * SECOND
    })
    .await;
    // The control: a genuine one.
    world.beacon = Some(TrustBeacon::start(&world.connection, &world.signer).await.unwrap());
    until(|| verifier.age() < SECOND).await;
}

#[tokio::test]
async fn one_beacon_is_for_all_instances() {
    let world = World::new().await;
    let nats = foreign(&world.server).await;
    let mut heard = nats.subscribe(BEACON).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        let connection = Connection::open(&without_consumers(crate::support::nats(&world.server))).await.unwrap();
        let config = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::ZERO);
        let keys = soon(SigningKeys::open(&connection, config)).await.unwrap();
        others.push(TrustBeacon::start(&connection, &ChangeSigner::keys(&keys)).await.unwrap());
        drop(connection);
    }
    // Those of the new keys, which are told at once, are behind us after a while.
    for _ in 0..6 {
        soon(heard.next()).await.unwrap();
    }
    let began = std::time::Instant::now();
    for _ in 0..3 {
        soon(heard.next()).await.unwrap();
    }
    assert!(began.elapsed() > 3 * SECOND, "{:?}: each instance publishes", began.elapsed());
}

/// No instance of auth runs. Services ask the leader themselves, each three times within the bound.
#[tokio::test]
async fn guards_stay_open_without_beacons() {
    let mut world = World::new().await;
    let config = without_consumers(nats(&world.server));
    let verifier = Verifier::new(&config, 6 * SECOND).await;
    let token = world.token("s1");
    until(|| verifier.guard.verify(&token).is_ok()).await;
    world.beacon = None;
    let asked = requests(&world.server).await;
    let began = std::time::Instant::now();
    while began.elapsed() < 10 * SECOND {
        assert!(verifier.guard.verify(&token).is_ok(), "{:?}", verifier.revocations);
        tokio::time::sleep(SECOND / 20).await;
    }
    let count = asked.load(Ordering::SeqCst);
    assert!((2..=8).contains(&count), "{count} requests in 10 s");
    // What is revoked meanwhile arrives all the same, and so does what is not signed.
    Revoker::open(&world.connection).await.unwrap().session("s1").await.unwrap();
    until(|| verifier.refuses(&token)).await;
}

#[tokio::test]
async fn late_beacon_makes_the_list_no_fresher_than_it_says() {
    let mut world = World::new().await;
    let verifier = Verifier::new(&without_consumers(nats(&world.server)), 60 * SECOND).await;
    let nats = foreign(&world.server).await;
    // Another service hears the beacon, which reaches this one late.
    let mut heard = nats.subscribe(BEACON).await.unwrap();
    soon(heard.next()).await.unwrap();
    until(|| verifier.age() < SECOND).await;
    world.beacon = None;
    until(|| verifier.age() > 3 * SECOND).await;
    let beacon = TrustBeacon::start(&world.connection, &world.signer).await.unwrap();
    let made = soon(heard.next()).await.unwrap();
    drop(beacon);
    until(|| verifier.age() < 2 * SECOND).await;
    let at: u64 = {
        let text = String::from_utf8(made.payload.to_vec()).unwrap();
        text.split("\"at\":").nth(1).unwrap().split(',').next().unwrap().parse().unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(verifier.age().as_millis() as u64 + 5 >= now - at, "{:?}, made {} ms ago", verifier.age(), now - at);
}

//! Floods of key ids that nobody has.

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn made_up(n: usize) -> String {
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": format!("made-up-{n}") }).to_string();
    format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header))
}

/// How many messages the connection has sent.
fn sent(connection: &Connection) -> u64 {
    connection.nats().statistics().out_messages.load(std::sync::atomic::Ordering::SeqCst)
}

#[tokio::test]
async fn a_flood_of_unknown_keys_sends_one_look_up_and_waits_once() {
    const FLOOD: usize = 20_000;
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let (keys, guard) = (keys(&a, config()).await, guard(&b).await);
    let good = issue(&keys);
    assert!(soon(guard.verify_async(&good)).await.is_ok());
    b.round_trip(PATIENCE).await.unwrap();
    let before = sent(&b);
    // The first to come share one wait, as far as there are places.
    let waiting = Instant::now();
    let refused = soon(futures::future::join_all((0..200).map(|n| {
        let guard = guard.clone();
        async move { guard.verify_async(&made_up(n)).await.unwrap_err() }
    })))
    .await;
    assert!(refused.iter().all(|refusal| *refusal == JwtRejection::UnknownKeyId));
    assert!(waiting.elapsed() >= Duration::from_millis(250));
    for n in 0..FLOOD {
        assert_eq!(guard.verify_async(&made_up(n)).await.unwrap_err(), JwtRejection::UnknownKeyId);
    }
    b.round_trip(PATIENCE).await.unwrap();
    // Two keys looked up for the first; a second time if the flood took 10 s; an echo is two messages.
    let looked_up = sent(&b) - before;
    assert!(looked_up <= 8, "{looked_up} messages for {FLOOD} tokens");
    assert!(guard.verify(&good).is_ok());
}

#[tokio::test]
async fn a_token_of_a_key_that_is_on_its_way_is_waited_for() {
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let keys = keys(&a, config()).await;
    let token = issue(&keys);
    // A ring that the watch has not brought the key to yet, as its bucket held none when it was read.
    let store = store(&server).await;
    let document = store.get(RING).await.unwrap().unwrap();
    drop(keys);
    store.delete(RING).await.unwrap();
    store.put(RING, r#"{"version":1,"keys":[]}"#.into()).await.unwrap();
    let guard = guard(&b).await;
    assert_eq!(guard.verify(&token).unwrap_err(), JwtRejection::NoKeys);
    let (taken, _) =
        soon(async { tokio::join!(guard.verify_async(&token), async { store.put(RING, document).await.unwrap() }) })
            .await;
    assert!(taken.is_ok(), "{taken:?}");
}

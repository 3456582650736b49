//! Sessions end by themselves, and leave nothing in the bucket.

use futures::StreamExt;

use super::forged::with_generation;
use super::*;

#[tokio::test]
async fn refresh_08_sessions_end_when_idle_and_at_their_absolute_end() {
    let world = World::new().await;
    let hand = Hand::default();
    let (idle, absolute) = (Duration::from_secs(100), Duration::from_secs(250));
    let sessions = world.sessions(config().idle(idle).absolute(absolute).clock(hand.clock())).await;

    let left_alone = sessions.create(owner()).await.expect("a session");
    let mut used = sessions.create(owner()).await.expect("a session");
    for _ in 0..2 {
        hand.forward(Duration::from_secs(99));
        used = sessions.refresh(&used.refresh_token).await.expect("a successor");
    }
    assert!(is_invalid(&sessions.refresh(&left_alone.refresh_token).await));
    // 198 s have passed; the idle expiry would be at 298 s, the absolute one is at 250 s.
    hand.forward(Duration::from_secs(51));
    used = sessions.refresh(&used.refresh_token).await.expect("a successor");
    hand.forward(Duration::from_secs(1));
    assert!(is_invalid(&sessions.refresh(&used.refresh_token).await));
}

#[tokio::test]
async fn refresh_08_the_time_to_live_survives_rotation_and_empties_the_bucket() {
    let world = World::new().await;
    let sessions = world.sessions(config().idle(Duration::from_secs(2))).await;
    let bucket = world.bucket().await;
    let mut watch = bucket.watch(">").await.expect("a watch");

    let first = sessions.create(owner()).await.expect("a session");
    assert_eq!(ttl(&world.stored(&first.session.id).await), Some("3".to_owned()));
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    assert_eq!(ttl(&world.stored(&second.session.id).await), Some("3".to_owned()));

    // The server says itself when the record is gone.
    let gone = async {
        while let Some(entry) = watch.next().await {
            if entry.expect("an entry").operation == kv::Operation::Purge {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), gone).await.expect("the record expires");
    assert!(is_invalid(&sessions.refresh(&second.refresh_token).await));
}

fn ttl(message: &jetstream::message::StreamMessage) -> Option<String> {
    message.headers.get("Nats-TTL").map(|value| value.as_str().to_owned())
}

#[tokio::test]
async fn a_session_that_has_expired_is_neither_listed_nor_ended_though_its_record_is_there() {
    let world = World::new().await;
    let hand = Hand::default();
    let idle = Duration::from_secs(100);
    let sessions = world.sessions(config().idle(idle).clock(hand.clock())).await;
    let id = sessions.create(owner()).await.expect("a session").session.id;
    hand.forward(idle - Duration::from_millis(1));
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 1);
    hand.forward(Duration::from_millis(1));
    assert_eq!(sessions.list("u1").await.expect("a list"), []);
    assert!(is_invalid(&sessions.revoke("u1", &id).await));
    assert!(!world.stored(&id).await.payload.is_empty());
}

/// Whoever could refresh without an end could leave a token so far behind that it is no longer known for a genuine one.
#[tokio::test]
async fn a_session_ends_when_it_was_refreshed_16_384_times() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let issued = sessions.create(owner()).await.expect("a session");
    let id = &issued.session.id;
    let stored = world.stored(id).await;
    let mut record: serde_json::Value = serde_json::from_slice(&stored.payload).expect("a record");
    assert_eq!(record["gen"], 0, "{record}");
    record["gen"] = 16_383.into();
    let key = stored.subject.strip_prefix(SUBJECTS).expect("a key of the bucket");
    world.bucket().await.put(key, record.to_string().into()).await.expect("written");

    let last_but_one = with_generation(&issued.refresh_token, 16_383);
    let last = sessions.refresh(&last_but_one).await.expect("a successor").refresh_token;
    assert_eq!(with_generation(&last, 16_384), last);
    let ended = sessions.refresh(&last).await;
    assert!(matches!(&ended, Err(SessionError::Ended(session)) if session.id == *id), "{ended:?}");
    assert!(is_invalid(&sessions.refresh(&last).await));
    assert!(is_invalid(&sessions.refresh(&last_but_one).await));
}

//! Sessions end by themselves, and leave nothing in the bucket.

use futures::StreamExt;

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
    assert!(is_invalid(&sessions.end("u1", &id).await));
    assert!(!world.stored(&id).await.payload.is_empty());
}

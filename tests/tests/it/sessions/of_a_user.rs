//! All the sessions that a user has: seen, ended, and no more than the cap.

use std::num::NonZeroUsize;

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn a_user_sees_their_sessions_and_ends_one_or_all() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let mut ids = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let issued = sessions.create(owner()).await.expect("a session");
        ids.push(issued.session.id);
        tokens.push(issued.refresh_token);
        hand.forward(Duration::from_secs(1));
    }
    let other = sessions.create(Owner::new("u2", "k2").user_epoch(7)).await.expect("a session");
    tokens[0] = sessions.refresh(&tokens[0]).await.expect("a successor").refresh_token;

    let listed = sessions.list("u1").await.expect("a list");
    assert_eq!(listed.iter().rev().map(|live| live.session.id.as_str()).collect::<Vec<_>>(), ids);
    let oldest = listed.last().expect("three");
    assert_eq!(oldest.refreshed_at.duration_since(oldest.created_at).expect("later").as_secs(), 3);
    assert_eq!(sessions.list("u2").await.expect("a list")[0].session.owner.user_epoch, 7);
    assert_eq!(sessions.list("nobody").await.expect("a list"), []);

    for (user, id) in [("u2", ids[1].as_str()), ("u1", "*"), ("u1", ">"), ("u1", ""), ("u1", &other.session.id)] {
        assert!(is_invalid(&sessions.revoke(user, id).await), "{user} {id}");
    }
    sessions.revoke("u1", &ids[1]).await.expect("an end");
    assert!(is_invalid(&sessions.revoke("u1", &ids[1]).await));
    assert!(is_invalid(&sessions.refresh(&tokens[1]).await));
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 2);

    let later = sessions.create(Owner::new("u1", "k1").user_epoch(1)).await.expect("a session");
    assert_eq!(sessions.revoke_all("u1", 1).await.expect("an end"), 2);
    for token in [&tokens[0], &tokens[2]] {
        assert!(is_invalid(&sessions.refresh(token).await));
    }
    for token in [&other.refresh_token, &later.refresh_token] {
        assert!(sessions.refresh(token).await.is_ok());
    }
}

#[tokio::test]
async fn refresh_13_at_the_cap_the_oldest_session_ends() {
    let world = World::new().await;
    let hand = Hand::default();
    let cap = NonZeroUsize::new(5).expect("not zero");
    let sessions = world.sessions(config().cap(cap).clock(hand.clock())).await;
    let mut tokens = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..30 {
        let begun = sessions.create(owner()).await.expect("a session");
        let evicted: Vec<_> = begun.evicted.iter().map(|session| session.id.as_str()).collect();
        let oldest = ids.len().checked_sub(5).map(|oldest| ids[oldest].as_str());
        assert_eq!(evicted, Vec::from_iter(oldest));
        ids.push(begun.session.id);
        tokens.push(begun.refresh_token);
        hand.forward(Duration::from_millis(1));
    }
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 5);
    for (number, token) in tokens.iter().enumerate() {
        assert_eq!(sessions.refresh(token).await.is_ok(), number >= 25, "session {number}");
    }
}

#[tokio::test]
async fn refresh_13_of_sessions_that_begin_at_once_none_ends_its_own() {
    let world = World::new().await;
    let cap = NonZeroUsize::MIN;
    let sessions = world.sessions(config().cap(cap)).await;
    for begun in join_all((0..16).map(|_| sessions.create(owner()))).await {
        begun.expect("a session");
    }
    let last = sessions.create(owner()).await.expect("a session");
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 1);
    assert!(sessions.refresh(&last.refresh_token).await.is_ok());
}

#[tokio::test]
async fn sessions_that_begin_at_once_never_end_each_other() {
    let world = World::new().await;
    let mut instances = Vec::new();
    for _ in 0..2 {
        let connection = connect(&world.server).await;
        let sessions = Sessions::open(&connection, config().cap(NonZeroUsize::MIN)).await.expect("sessions");
        instances.push(sessions);
    }
    for round in 0..40 {
        let begun = join_all(instances.iter().map(|sessions| sessions.create(owner()))).await;
        let mut alive = 0;
        for issued in begun {
            let token = issued.expect("a session").refresh_token;
            alive += usize::from(instances[0].refresh(&token).await.is_ok());
        }
        assert!(alive >= 1, "round {round}: both were told of a session, and both are dead");
    }
    // One after the other, there is one.
    let last = instances[1].create(owner()).await.expect("a session");
    assert_eq!(instances[0].list("u1").await.expect("a list").len(), 1);
    assert!(instances[0].refresh(&last.refresh_token).await.is_ok());
}

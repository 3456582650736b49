//! One use for each token: rotation, races, and what is taken for reuse.

use std::collections::HashSet;

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn refresh_01_reuse_after_the_grace_period_ends_the_session() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");

    hand.forward(Duration::from_millis(9_000));
    let again = sessions.refresh(&first.refresh_token).await.expect("the same successor");
    assert_eq!(again, second);

    hand.forward(Duration::from_millis(2_000));
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));
    assert!(is_invalid(&sessions.refresh(&second.refresh_token).await));
}

#[tokio::test]
async fn refresh_02_a_grandparent_ends_the_session_even_within_the_grace_period() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let third = sessions.refresh(&second.refresh_token).await.expect("a successor");
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));
    for token in [&second, &third] {
        assert!(is_invalid(&sessions.refresh(&token.refresh_token).await));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_04_of_32_refreshes_at_once_one_rotates_and_all_get_its_successor() {
    let world = World::new().await;
    let instances = world.instances().await;
    let mut issued = instances[0].create(owner()).await.expect("a session");
    for round in 1..=50 {
        let before = world.stored(&issued.session.id).await.sequence;
        let attempts = (0..32).map(|n| instances[n % 4].refresh(&issued.refresh_token));
        let successors: HashSet<_> =
            join_all(attempts).await.into_iter().map(|result| result.expect("a successor").refresh_token).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        assert_eq!(world.stored(&issued.session.id).await.sequence, before + 1, "one rotation in round {round}");
        issued.refresh_token = successors.into_iter().next().expect("one");
    }
}

#[tokio::test]
async fn a_rotation_does_not_outlive_a_log_out() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    for _ in 0..20 {
        let issued = sessions.create(owner()).await.expect("a session");
        let (refreshed, logged_out) =
            tokio::join!(sessions.refresh(&issued.refresh_token), sessions.log_out(&issued.refresh_token));
        logged_out.expect("a log-out");
        if let Ok(successor) = refreshed {
            assert!(is_invalid(&sessions.refresh(&successor.refresh_token).await));
        }
    }
}

#[tokio::test]
async fn a_lost_reply_is_given_again_within_the_configured_grace() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().grace(Duration::from_secs(60)).clock(hand.clock())).await;
    let first = sessions.create(owner()).await.expect("a session");
    let lost = sessions.refresh(&first.refresh_token).await.expect("a successor");
    hand.forward(Duration::from_secs(59));
    let again = sessions.refresh(&first.refresh_token).await.expect("the same successor");
    assert_eq!(again.refresh_token, lost.refresh_token);
    // Once the new token was used, the old one is a thief's, however early.
    sessions.refresh(&again.refresh_token).await.expect("a successor");
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));

    // Beyond it, the session ends as before.
    let first = sessions.create(owner()).await.expect("a session");
    sessions.refresh(&first.refresh_token).await.expect("a successor");
    hand.forward(Duration::from_secs(60));
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));
}

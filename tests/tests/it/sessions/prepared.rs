//! What an answer needs is made before a token is used up, or nothing is.

use std::collections::HashSet;
use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;

use futures::future::join_all;
use nats_rpc_auth::{Issued, Session};
use nats_rpc_jwt::Revoker;

use super::*;
use crate::support::soon;

/// What an attempt came to with something that prepares.
type Prepared = Result<(Issued, &'static str), SessionError>;

/// There is nothing to answer with.
async fn nothing(sessions: &Sessions, token: &str) -> Prepared {
    sessions.refresh_with(token, |_| ready(Err(SessionError::Unavailable("nothing to sign with".into())))).await
}

async fn access(sessions: &Sessions, token: &str) -> Prepared {
    sessions.refresh_with(token, |_| ready(Ok(Some("access")))).await
}

fn is_unavailable<T>(result: &Result<T, SessionError>) -> bool {
    matches!(result, Err(SessionError::Unavailable(_)))
}

#[tokio::test]
async fn while_there_is_nothing_to_answer_with_a_token_stays_good() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let first = sessions.create(owner()).await.expect("a session");
    let before = world.stored(&first.session.id).await.sequence;
    for _ in 0..3 {
        assert!(is_unavailable(&nothing(&sessions, &first.refresh_token).await));
        // Longer than the grace period: a token that was used up would be taken for a stolen one.
        hand.forward(Duration::from_secs(11));
    }
    assert_eq!(world.stored(&first.session.id).await.sequence, before, "nothing was written");
    let (second, prepared) = access(&sessions, &first.refresh_token).await.expect("a successor");
    assert_eq!((&second.session, prepared), (&first.session, "access"));
    assert!(sessions.refresh(&second.refresh_token).await.is_ok());
}

#[tokio::test]
async fn what_prepares_for_longer_than_a_caller_waits_is_no_answer() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let silent = sessions.refresh_with(&first.refresh_token, |_| pending::<Result<Option<()>, SessionError>>());
    let silent = soon(silent).await;
    assert!(is_unavailable(&silent), "{silent:?}");
    assert!(access(&sessions, &first.refresh_token).await.is_ok());
}

#[tokio::test]
async fn the_grace_period_stands_still_while_there_is_nothing_to_answer_with() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let first = sessions.create(owner()).await.expect("a session");
    // The answer was lost, and then there is none for 24 s.
    let (second, _) = access(&sessions, &first.refresh_token).await.expect("a successor");
    for _ in 0..8 {
        hand.forward(Duration::from_secs(3));
        assert!(is_unavailable(&nothing(&sessions, &first.refresh_token).await));
    }
    hand.forward(Duration::from_secs(3));
    assert_eq!(access(&sessions, &first.refresh_token).await.expect("the same successor").0, second);
    hand.forward(Duration::from_secs(10));
    assert!(is_reused(&access(&sessions, &first.refresh_token).await), "it goes on when there are answers");
}

#[tokio::test]
async fn a_session_whose_owner_may_not_go_on_ends_with_its_access_tokens() {
    let world = World::new().await;
    Revoker::provision(&world.jetstream, 1).await.expect("a bucket");
    let revoker = Arc::new(Revoker::open(&world.connection).await.expect("a revoker"));
    let sessions = world.sessions(config().revoker(revoker)).await;
    let issued = sessions.create(owner()).await.expect("a session");
    let refused = sessions.refresh_with(&issued.refresh_token, |_| ready(Ok::<Option<()>, SessionError>(None))).await;
    assert!(matches!(&refused, Err(SessionError::Ended(session)) if *session == issued.session), "{refused:?}");
    assert!(is_invalid(&sessions.refresh(&issued.refresh_token).await));
    let bucket = world.jetstream.get_key_value("auth_rev").await.expect("the bucket");
    assert!(bucket.get(format!("sid.{}", issued.session.id)).await.expect("an answer").is_some());
}

#[tokio::test]
async fn nothing_is_prepared_for_a_token_that_is_not_good_and_a_reused_one_ends_its_session_all_the_same() {
    let world = World::new().await;
    let sessions = world.sessions(config().grace(Duration::ZERO)).await;
    let first = sessions.create(owner()).await.expect("a session");
    let (second, _) = access(&sessions, &first.refresh_token).await.expect("a successor");
    let never = async |token: &str| -> Prepared {
        sessions.refresh_with(token, |_| async { panic!("there is nothing to prepare for") }).await
    };
    for bad in ["", "nrt1.AAAA", &forged::forged(&second.refresh_token)] {
        assert!(is_invalid(&never(bad).await), "{bad}");
    }
    assert!(is_reused(&never(&first.refresh_token).await));
    assert!(is_invalid(&never(&second.refresh_token).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_04_of_32_at_once_of_which_some_get_no_answer_one_rotates_and_no_session_is_lost() {
    let world = World::new().await;
    let instances = world.instances().await;
    let mut issued = instances[0].create(owner()).await.expect("a session");
    for round in 1..=20 {
        let before = world.stored(&issued.session.id).await.sequence;
        let asked = AtomicUsize::new(round);
        // Every other time there is nothing to answer with; who is told so tries again.
        let now_and_then = |_: Session| {
            let answer = asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            ready(if answer { Ok(Some(())) } else { Err(SessionError::Contended) })
        };
        let attempts = (0..32).map(|n| {
            let (sessions, token) = (&instances[n % 4], &issued.refresh_token);
            async move {
                loop {
                    match sessions.refresh_with(token, now_and_then).await {
                        Ok((successor, ())) => return successor.refresh_token,
                        Err(SessionError::Contended) => {}
                        Err(error) => panic!("round {round}: {error}"),
                    }
                }
            }
        });
        let successors: HashSet<_> = join_all(attempts).await.into_iter().collect();
        assert_eq!(successors.len(), 1, "round {round}");
        assert_eq!(world.stored(&issued.session.id).await.sequence, before + 1, "one rotation in round {round}");
        issued.refresh_token = successors.into_iter().next().expect("one");
    }
}

//! What ends a session ends what was issued in it.

use std::num::NonZeroUsize;

use futures::StreamExt;
use nats_rpc_jwt::Revoker;

use super::*;

#[tokio::test]
async fn what_ends_a_session_revokes_its_access_tokens() {
    let world = World::new().await;
    Revoker::provision(&world.jetstream, 1).await.expect("a bucket");
    let revoker = Arc::new(Revoker::open(&world.connection).await.expect("a revoker"));
    let config = || config().grace(Duration::ZERO).cap(NonZeroUsize::new(5).expect("not zero"));
    let sessions = world.sessions(config().revoker(revoker)).await;
    let bucket = world.jetstream.get_key_value("auth_rev").await.expect("the bucket");
    let revoked = async |id: &str| bucket.get(format!("sid.{id}")).await.expect("an answer").is_some();

    let logged_out = sessions.create(owner()).await.expect("a session");
    let ended = sessions.create(owner()).await.expect("a session");
    let reused = sessions.create(owner()).await.expect("a session");
    let ended_by_id = sessions.create(owner()).await.expect("a session");
    for issued in [&logged_out, &ended, &reused, &ended_by_id] {
        assert!(!revoked(&issued.session.id).await);
    }
    sessions.log_out(&logged_out.refresh_token).await.expect("a log-out");
    sessions.revoke("u1", &ended.session.id).await.expect("an end");
    sessions.refresh(&reused.refresh_token).await.expect("a successor");
    assert!(is_reused(&sessions.refresh(&reused.refresh_token).await));
    sessions.revoke_by_id(&ended_by_id.session.id).await.expect("an end").expect("a session");
    let gone = "A".repeat(22);
    assert_eq!(sessions.revoke_by_id(&gone).await.expect("an end"), None);
    for id in [&logged_out.session.id, &ended.session.id, &reused.session.id, &ended_by_id.session.id, &gone] {
        assert!(revoked(id).await);
    }

    let oldest = sessions.create(owner()).await.expect("a session");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        sessions.create(owner()).await.expect("a session");
    }
    assert!(revoked(&oldest.session.id).await);
    sessions.revoke_all("u1", 3).await.expect("an end");
    let mut epochs = bucket.watch_with_history("ep.*").await.expect("a watch");
    let epoch = epochs.next().await.expect("an entry").expect("an entry");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&epoch.value).expect("JSON")["epoch"], 3);
}

//! Tokens that were never issued, and looks that change nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::*;

#[tokio::test]
async fn refresh_11_an_old_token_logs_out_and_a_forged_one_does_not() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let third = sessions.refresh(&second.refresh_token).await.expect("a successor");

    assert!(is_invalid(&sessions.log_out(&forged(&third.refresh_token)).await));
    assert!(sessions.refresh(&third.refresh_token).await.is_ok());
    assert!(sessions.log_out(&first.refresh_token).await.is_ok());
    assert!(is_invalid(&sessions.refresh(&third.refresh_token).await));
}

#[tokio::test]
async fn refresh_05_07_a_forged_token_of_any_generation_changes_nothing() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let current = sessions.refresh(&second.refresh_token).await.expect("a successor");
    let before = world.stored(&current.session.id).await;

    assert_eq!(with_generation(&current.refresh_token, 2), current.refresh_token);
    let mut attempts =
        vec![forged(&first.refresh_token), forged(&second.refresh_token), forged(&current.refresh_token)];
    attempts.extend([0, 1, 3, 1_000, u32::MAX].map(|generation| with_generation(&current.refresh_token, generation)));
    for attempt in &attempts {
        assert!(is_invalid(&sessions.refresh(attempt).await), "{attempt}");
    }
    let after = world.stored(&current.session.id).await;
    assert_eq!((before.sequence, before.payload), (after.sequence, after.payload));
    assert!(sessions.refresh(&current.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_session_that_does_not_exist_is_like_a_forged_one() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let gone = format!("nrt1.{}", "A".repeat(70));
    assert!(is_invalid(&sessions.refresh(&gone).await));
    assert!(is_invalid(&sessions.log_out(&gone).await));
    for token in ["", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "nrt1.*", "nrt1.>"] {
        assert!(is_invalid(&sessions.refresh(token).await), "{token}");
    }
}

#[tokio::test]
async fn refresh_10_whoever_reads_the_bucket_holds_no_token() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let issued = sessions.create(owner()).await.expect("a session");
    let record = world.stored(&issued.session.id).await;
    let text = String::from_utf8(record.payload.to_vec()).expect("JSON");
    let secret = BASE64.encode(&decode(&issued.refresh_token)[20..]);
    assert!(!text.contains(&secret), "{text}");

    // The stored hash presented as a secret.
    let stored: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let hash = BASE64.decode(stored["hash"].as_str().expect("a hash")).expect("base64url");
    let mut token = decode(&issued.refresh_token);
    token[20..].copy_from_slice(&hash);
    assert!(is_invalid(&sessions.refresh(&format!("nrt1.{}", BASE64.encode(&token))).await));
    assert!(sessions.refresh(&issued.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_look_at_a_refresh_token_uses_nothing_up() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    for _ in 0..2 {
        assert_eq!(sessions.get(&first.refresh_token).await.expect("a session").session, first.session);
    }
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    sessions.refresh(&second.refresh_token).await.expect("a successor");
    // Reuse, which a refresh would punish.
    assert!(is_invalid(&sessions.get(&first.refresh_token).await));
    assert!(is_invalid(&sessions.get(&forged(&second.refresh_token)).await));
    assert!(sessions.get(&second.refresh_token).await.is_ok());
}

/// A forged token of an old generation costs thousands of HMACs, which must not keep others from being served.
#[tokio::test]
async fn a_flood_of_forged_old_tokens_stops_nobody() {
    let world = World::new().await;
    let sessions = Arc::new(world.sessions(config()).await);
    let victim = sessions.create(owner()).await.expect("a session");
    // As if it had been refreshed as often as may be.
    let mut record: serde_json::Value =
        serde_json::from_slice(&world.stored(&victim.session.id).await.payload).expect("JSON");
    record["gen"] = serde_json::json!(16_000);
    let key = subject(&victim.session.id).replacen(SUBJECTS, "", 1);
    world.bucket().await.put(key, record.to_string().into()).await.expect("a write");

    let attempts = (0..300).map(|_| {
        let (sessions, token) = (Arc::clone(&sessions), forged(&victim.refresh_token));
        tokio::spawn(async move { sessions.refresh(&token).await })
    });
    let attempts: Vec<_> = attempts.collect();
    // They are judged one at a time, so most of them still wait when others have been served.
    let mut other = sessions.create(owner()).await.expect("a session");
    for _ in 0..5 {
        other = sessions.refresh(&other.refresh_token).await.expect("a successor");
    }
    let waiting = attempts.iter().filter(|attempt| !attempt.is_finished()).count();
    for attempt in attempts {
        let refused = attempt.await.expect("no panic");
        assert!(matches!(refused, Err(SessionError::Invalid | SessionError::Unavailable(_))), "{refused:?}");
    }
    assert!(waiting > 0, "the flood was judged before anybody else");
}

/// The same session and generation, another secret.
pub(super) fn forged(token: &str) -> String {
    let middle = 40;
    let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

/// The same session and secret, the generation in the fifth group of four characters changed.
pub(super) fn with_generation(token: &str, generation: u32) -> String {
    // 16 bytes of session id are 21 1/3 characters; the generation is bytes 16..20.
    let mut bytes = decode(token);
    bytes[16..20].copy_from_slice(&generation.to_be_bytes());
    format!("nrt1.{}", BASE64.encode(&bytes))
}

/// Session id, generation and secret of a token.
fn decode(token: &str) -> Vec<u8> {
    BASE64.decode(&token[5..]).expect("base64url")
}

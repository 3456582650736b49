//! Refresh tokens made up of what is known: an id, a generation, a digest, the secret of another session.

use nats_rpc::Code;
use serde_json::{Value, json};

use super::super::forge::{b64, unb64};
use super::super::harness;
use super::super::services::REFRESH_SECRET;
use super::{World, bytes_of, session_of};
use crate::support::soon;

/// A token of these bytes: 16 of session id, 4 of generation, 32 of secret.
fn token_of(bytes: &[u8]) -> String {
    format!("nrt1.{}", b64(bytes))
}

pub(super) fn with_generation(token: &str, generation: u32) -> String {
    let mut bytes = bytes_of(token);
    bytes[16..20].copy_from_slice(&generation.to_be_bytes());
    token_of(&bytes)
}

pub(super) fn with_secret(token: &str, secret: [u8; 32]) -> String {
    token_of(&[&bytes_of(token)[..20], &secret].concat())
}

/// Else whoever knows a session's id could end it.
pub(super) async fn a_forged_secret_of_a_known_session(world: &World) {
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    let third = world.refreshed(&second).await;
    let before = world.revision(&third).await;
    for generation in [0, 1, 2, 3, 1_000] {
        for secret in [[0; 32], [0xff; 32], [7; 32]] {
            world.refuses("auth.refresh", with_secret(&with_generation(&third, generation), secret)).await;
        }
    }
    for (token, generation) in
        [(&user.refresh_token, 1), (&user.refresh_token, 2), (&second, 0), (&second, 2), (&third, 1)]
    {
        world.refuses("auth.refresh", with_generation(token, generation)).await;
    }
    assert_eq!(world.revision(&third).await, before);
    world.refreshed(&third).await;
}

pub(super) async fn generations_out_of_bounds(world: &World) {
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    let before = world.revision(&second).await;
    for generation in [2, 3, 20_001, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
        world.refuses("auth.refresh", with_generation(&second, generation)).await;
    }
    assert_eq!(world.revision(&second).await, before);
    assert_eq!(with_generation(&second, 1), second);
    world.refreshed(&second).await;
}

impl World {
    /// All bytes that the stream behind the bucket holds, headers included.
    async fn dump(&self) -> Vec<u8> {
        let last = soon(self.bucket.stream.get_info()).await.unwrap().state.last_sequence;
        let mut dump = Vec::new();
        for sequence in 1..=last {
            // A record that was replaced is gone.
            let Ok(message) = soon(self.bucket.stream.get_raw_message(sequence)).await else { continue };
            dump.extend_from_slice(message.subject.as_bytes());
            dump.extend_from_slice(format!("{:?}", message.headers).as_bytes());
            dump.extend_from_slice(&message.payload);
        }
        dump
    }
}

pub(super) async fn a_dump_of_the_bucket(world: &World) {
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    let dump = world.dump().await;
    let holds = |needle: &[u8]| dump.windows(needle.len()).any(|window| window == needle);
    assert!(holds(session_of(&second).as_bytes()), "the dump has nothing of the session");
    for token in [&user.refresh_token, &second] {
        let secret = &bytes_of(token)[20..];
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!holds(secret) && !holds(hex.as_bytes()) && !holds(b64(secret).as_bytes()));
        assert!(!holds(&token.as_bytes()[5..]) && !holds(REFRESH_SECRET.as_bytes()));
    }
    // Whatever of 32 bytes the record does hold is no secret.
    let entry = world.bucket.get(session_of(&second)).await.unwrap().unwrap();
    let record: Value = serde_json::from_slice(&entry).unwrap();
    let mut tried = 0;
    for text in record.as_object().unwrap().values().filter_map(Value::as_str) {
        let Ok(Ok(bytes)) = std::panic::catch_unwind(|| unb64(text)).map(<[u8; 32]>::try_from) else { continue };
        world.refuses("auth.refresh", with_secret(&second, bytes)).await;
        tried += 1;
    }
    assert!(tried > 0, "no digest in {record}");
    world.refreshed(&second).await;
}

pub(super) async fn a_token_in_another_spelling(world: &World) {
    let token = world.user().await.refresh_token;
    let (stem, last) = token.split_at(token.len() - 1);
    let before = world.revision(&token).await;
    for bad in [
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        format!("{token}\n"),
        token.to_uppercase(),
        token.replacen("nrt1", "nrt2", 1),
        token.replacen("nrt1.", "", 1),
        stem.to_owned(),
        format!("{stem}{}", if last == "-" { "_" } else { "-" }),
        format!("nrt1.{}", "A".repeat(1 << 19)),
        "nrt1.>".to_owned(),
        "nrt1.*".to_owned(),
        String::new(),
    ] {
        world.refuses("auth.refresh", bad).await;
    }
    for body in [json!({}), json!({ "refreshToken": null }), json!({ "refreshToken": [token] }), json!([])] {
        let error = world.client.send::<Value>("auth.refresh", &body).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::InvalidArgument), "{body}");
        harness::refused();
    }
    assert_eq!(world.revision(&token).await, before);
    world.refreshed(&token).await;
}

pub(super) async fn the_secret_of_another_session(world: &World) {
    let (ada, eve) = (world.user().await, world.user().await);
    let (of_ada, of_eve) = (bytes_of(&ada.refresh_token), bytes_of(&eve.refresh_token));
    let crossed = token_of(&[&of_ada[..20], &of_eve[20..]].concat());
    world.refuses("auth.refresh", crossed).await;
    world.refuses("auth.refresh", token_of(&[&[0; 16], &of_eve[16..]].concat())).await;
    world.refreshed(&ada.refresh_token).await;
    world.refreshed(&eve.refresh_token).await;
}

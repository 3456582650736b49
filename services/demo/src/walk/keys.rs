//! Key rotation and retirement: the signing key changes, and the demo retires the old one.

use std::time::{Duration, Instant};

use nats_rpc::Connection;
use nats_rpc_jwt::{JwksBucket, KeyPurpose};
use serde_json::{Value, json};

use super::{GET_PROFILE, PASSWORD, PROFILE, User, own_profile, sign_up};
use crate::BoxError;
use crate::caller::{Answer, Caller};
use crate::report::Report;
use crate::system::System;

/// Maximum time until a new key signs.
const ROTATION_LIMIT: Duration = Duration::from_secs(20);
/// Maximum time for which services accept a retired key; milliseconds are usual.
const RETIREMENT_LIMIT: Duration = Duration::from_secs(3);

/// Rotates the key, and then retires the previous one.
pub(super) async fn rotate(system: &System, caller: &Caller, report: &mut Report) {
    let email = format!("grace-{}@example.com", uuid::Uuid::now_v7());
    let signed_up = Box::pin(sign_up(caller, &email));
    let Some(grace) = report.step("sign-up before a rotation", "201, a user id and two tokens", signed_up).await else {
        return;
    };
    let published = Box::pin(public_key(caller, &grace.access_token));
    let Some(old) = report.step("public keys over NATS", "one that signed the token", published).await else { return };

    let rotated = Box::pin(other_key(system, caller, &email, &old));
    let Some(new) = report.step("rotation of the key", "tokens of another key", rotated).await else { return };
    for (over_http, over_nats, token) in [
        ("old token after the rotation over HTTP", "old token after the rotation over NATS", &grace.access_token),
        ("new token over HTTP", "new token over NATS", &new),
    ] {
        let answered = async { own_profile(&caller.post(PROFILE, Some(token), &json!({})).await?, &grace) };
        report.step(over_http, "200, one's own", Box::pin(answered)).await;
        let answered = async { own_profile(&caller.call(GET_PROFILE, Some(token), &json!({})).await?, &grace) };
        report.step(over_nats, "200, one's own", Box::pin(answered)).await;
    }

    let retired = async {
        ring(system).await?.retire(&old).await?;
        Ok(("retired".to_owned(), ()))
    };
    report.step("retirement of the old key", "gone from the ring", Box::pin(retired)).await;
    let refused = until_refused(&grace, async |token: &str| caller.post(PROFILE, Some(token), &json!({})).await);
    report.step("token of the retired key over HTTP", "401 within milliseconds", Box::pin(refused)).await;
    let refused = until_refused(&grace, async |token: &str| caller.call(GET_PROFILE, Some(token), &json!({})).await);
    report.step("token of the retired key over NATS", "401 within milliseconds", Box::pin(refused)).await;
    let answered = async { own_profile(&caller.call(GET_PROFILE, Some(&new), &json!({})).await?, &grace) };
    report.step("token of the new key", "200, one's own", Box::pin(answered)).await;
}

async fn ring(system: &System) -> Result<JwksBucket, BoxError> {
    let connection = Connection::open(&system.nats_of("auth")).await?;
    Ok(JwksBucket::open(&connection, KeyPurpose::AccessTokens).await?)
}

/// Returns the key id in a token's header.
fn key_id(token: &str) -> Result<String, BoxError> {
    use base64::Engine;
    let header = token.split('.').next().unwrap_or_default();
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header)?;
    let header: Value = serde_json::from_slice(&header)?;
    Ok(header["kid"].as_str().ok_or("a token without a key id")?.to_owned())
}

/// Returns the key that signed `token`, from the reply of `auth.jwks`.
async fn public_key(caller: &Caller, token: &str) -> Result<(String, String), BoxError> {
    let kid = key_id(token)?;
    let set = caller.call("auth.jwks", None, &json!({})).await?.body;
    let keys = set["keys"].as_array().ok_or("no JWK Set")?;
    match keys.iter().find(|key| key["kid"] == kid.as_str()) {
        Some(key) if key.get("d").is_none() => Ok((format!("{} of {}", kid, keys.len()), kid)),
        Some(_) => Err("a private key".into()),
        None => Err(format!("not among {}", keys.len()).into()),
    }
}

/// Requests a key rotation, and logs in until another key signs a token.
async fn other_key(system: &System, caller: &Caller, email: &str, old: &str) -> Result<(String, String), BoxError> {
    ring(system).await?.rotate().await?;
    let credentials = json!({ "email": email, "password": PASSWORD });
    let give_up = Instant::now() + ROTATION_LIMIT;
    loop {
        let answer = caller.post("/api/auth/login", None, &credentials).await?;
        let token = answer.text("accessToken").ok_or_else(|| answer.to_string())?;
        let kid = key_id(token)?;
        if kid != old {
            return Ok((kid, token.to_owned()));
        }
        if Instant::now() >= give_up {
            return Err("still the old key".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn until_refused(
    user: &User,
    call: impl AsyncFn(&str) -> Result<Answer, BoxError>,
) -> Result<(String, ()), BoxError> {
    let started = Instant::now();
    loop {
        let answer = call(&user.access_token).await?;
        if answer.status == 401 {
            return Ok((answer.to_string(), ()));
        }
        if started.elapsed() >= RETIREMENT_LIMIT {
            return Err(answer.to_string().into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

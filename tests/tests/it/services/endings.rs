//! A password that was replaced ends what its user had, whatever becomes of the call that replaced it.

use futures::TryStreamExt;
use nats_rpc_jwt::Revoker;

use super::guesses::{fail, key, prolong};
use super::passwords::{OTHER, RESET_SUBJECT, reset_token};
use super::revocation::refused;
use super::*;
use crate::support::{code, foreign, request_with};

/// A call to replace a password while revocations cannot be written, which ends before they can.
async fn replaced_in_vain(bed: &Bed, subject: &str, user: &User, body: &Value) {
    bed.client.connection().jetstream().delete_key_value("auth_rev").await.unwrap();
    let token = format!("Bearer {}", user.access_token);
    // Time enough to hash.
    let headers = [("Rpc-Timeout-Ms", "4000"), ("authorization", token.as_str())];
    let answer = request_with(&foreign(&bed.server).await, subject, &headers, body.to_string()).await;
    assert_eq!(code(&answer), 504, "its handler was cancelled");
}

/// Lets revocations be written again, and waits until those of `user`'s replaced password are known.
async fn ends_all_but_what_came_after(bed: &Bed, user: &User) {
    let (status, after) = bed.log_in("ada@example.com", OTHER).await;
    assert_eq!(status, 200, "it was replaced: {after}");
    Revoker::provision(&bed.client.connection().jetstream(), 1).await.unwrap();
    refused(bed, &user.access_token).await;
    assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);
    assert_eq!(bed.refresh(after["refreshToken"].as_str().unwrap()).await.0, 200);
}

#[tokio::test]
async fn a_changed_password_ends_access_tokens_though_its_call_ended_and_revocations_were_away() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": OTHER });
    replaced_in_vain(&bed, "auth.password.change", &ada, &change).await;
    ends_all_but_what_came_after(&bed, &ada).await;
}

#[tokio::test]
async fn a_reset_password_ends_access_tokens_though_its_call_ended_and_revocations_were_away() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    let ada = bed.sign_up("ada@example.com").await;
    let token = reset_token(&bed, "ada@example.com").await;
    let confirmation = json!({ "token": token, "newPassword": OTHER });
    replaced_in_vain(&bed, "auth.password.reset.confirm", &ada, &confirmation).await;
    ends_all_but_what_came_after(&bed, &ada).await;
}

#[tokio::test]
async fn a_reset_ends_the_wait_and_its_token_is_gone_while_revocations_are_away() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    let ada = bed.sign_up("ada@example.com").await;
    fail(&bed, "ada@example.com", 5).await;
    prolong(&bed, "password", &key("ada@example.com")).await;
    let token = reset_token(&bed, "ada@example.com").await;
    let confirmation = json!({ "token": token, "newPassword": OTHER });
    replaced_in_vain(&bed, "auth.password.reset.confirm", &ada, &confirmation).await;
    let resets = bed.client.connection().jetstream().get_key_value("auth_reset").await.unwrap();
    let tokens: Vec<String> = resets.keys().await.unwrap().try_collect().await.unwrap();
    assert!(tokens.is_empty(), "{tokens:?}");
    ends_all_but_what_came_after(&bed, &ada).await;
}

#[tokio::test]
async fn a_stop_of_auth_waits_until_it_is_known_what_a_changed_password_ended() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": OTHER });
    replaced_in_vain(&bed, "auth.password.change", &ada, &change).await;
    let Bed { system, client, http, server } = bed;
    let jetstream = client.connection().jetstream();
    let come_back = async { Revoker::provision(&jetstream, 1).await.unwrap() };
    tokio::join!(soon(system.stop()), come_back);
    let bucket = jetstream.get_key_value("auth_rev").await.unwrap();
    let revoked: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
    assert!(revoked.iter().any(|key| key.starts_with("ep.")), "{revoked:?}");
    drop((http, server));
}

//! What users cannot do to accounts, though it writes the profiles: auth finds who is whom by itself.

use ::auth::account::{AccountKey, Accounts};
use nats_rpc_auth::ServiceCredentials;

use super::guesses::{fail, key, prolong};
use super::passwords::{OTHER, RESET_SUBJECT, change, reset, reset_token};
use super::revocation::{ask, connection, email, logged_in, refused};
use super::*;

/// What a users service that was broken into may leave in place of a profile.
#[derive(Clone, Copy, Debug)]
enum Tampered {
    /// The address of somebody else.
    Address(&'static str),
    Rubbish,
    Nothing,
}

impl Tampered {
    async fn put(self, bed: &Bed, id: &str) {
        let profiles = bed.client.connection().jetstream().get_key_value("users").await.unwrap();
        match self {
            Self::Address(email) => {
                let profile = json!({ "userId": id, "email": email });
                profiles.put(id, profile.to_string().into()).await.unwrap();
            }
            Self::Rubbish => drop(profiles.put(id, "rubbish".into()).await.unwrap()),
            Self::Nothing => profiles.purge(id).await.unwrap(),
        }
    }
}

async fn sessions(bed: &Bed, token: &str) -> (u16, usize) {
    let url = format!("{}/api/auth/sessions", bed.system.gateway_url());
    let (status, body) = answer(bed.http.get(url).bearer_auth(token)).await;
    (status, body["sessions"].as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn whatever_profiles_say_users_are_logged_in_and_out_and_change_their_passwords() {
    let bed = Bed::start().await;
    bed.sign_up("eve@example.com").await;
    let credentials = ServiceCredentials::open(&connection(&bed).await).await.unwrap();
    let credential = credentials.add("revokes", "revoke").await.unwrap();
    for (n, tampered) in [Tampered::Address("eve@example.com"), Tampered::Rubbish, Tampered::Nothing].iter().enumerate()
    {
        let address = format!("ada{n}@example.com");
        let ada = bed.sign_up(&address).await;
        tampered.put(&bed, &ada.id).await;
        assert_eq!(sessions(&bed, &ada.access_token).await, (200, 1), "{tampered:?}");
        let (status, changed) = change(&bed, &ada.access_token, PASSWORD, OTHER).await;
        assert_eq!(status, 200, "{tampered:?}: {changed}");
        let nothing = json!({});
        assert_eq!(bed.post("/api/auth/logout-all", changed["accessToken"].as_str(), &nothing).await.0, 200);
        refused(&bed, changed["accessToken"].as_str().unwrap()).await;
        tampered.put(&bed, &ada.id).await;
        let (status, anew) = bed.log_in(&address, OTHER).await;
        assert_eq!(status, 200, "{tampered:?}: {anew}");
        tampered.put(&bed, &ada.id).await;
        assert_eq!(ask(&bed, &credential, "auth.revoke", &json!({ "sub": ada.id })).await, Ok(Value::Null));
        refused(&bed, anew["accessToken"].as_str().unwrap()).await;
        assert_eq!(bed.refresh(anew["refreshToken"].as_str().unwrap()).await.0, 401);
    }
}

#[tokio::test]
async fn a_reset_forgets_the_failures_of_its_own_account_whosever_address_the_profile_has() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    for address in ["ada@example.com", "eve@example.com"] {
        fail(&bed, address, 5).await;
        prolong(&bed, "password", &key(address)).await;
    }
    Tampered::Address("ada@example.com").put(&bed, &eve.id).await;
    let token = reset_token(&bed, "eve@example.com").await;
    assert_eq!(reset(&bed, &token, OTHER).await, 200);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 429);
    assert_eq!(bed.log_in("eve@example.com", OTHER).await.0, 200);
}

#[tokio::test]
async fn an_address_is_believed_only_if_it_is_the_one_that_the_account_is_found_by() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada.lovelace@example.com").await;
    let (status, refused) = change(&bed, &ada.access_token, PASSWORD, "ada.lovelace").await;
    assert_eq!((status, &refused["details"]["reason"]), (400, &json!("personal")));
    Tampered::Address("augusta.byron@example.com").put(&bed, &ada.id).await;
    let (status, changed) = change(&bed, &ada.access_token, PASSWORD, "augusta.byron").await;
    assert_eq!(status, 200, "{changed}");
}

#[tokio::test]
async fn an_account_whose_place_was_never_noted_is_found_by_its_sessions_and_noted_at_a_log_in() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let connection = connection(&bed).await;
    let accounts = Accounts::open(&connection).await.unwrap();
    let user = ::users::UserId::parse(&ada.id).unwrap();
    let bucket = connection.jetstream().get_key_value("auth_users").await.unwrap();
    let place = format!("id.{user}");
    let found = async || accounts.find_by_id(user).await.unwrap().map(|(key, _)| key);
    let at = Some(AccountKey::of(&email("ada@example.com")));
    assert_eq!(found().await, at);

    bucket.purge(&place).await.unwrap();
    assert_eq!(sessions(&bed, &ada.access_token).await, (200, 1));
    assert_eq!(found().await, at, "a session knew");

    bucket.purge(&place).await.unwrap();
    assert_eq!(bed.post("/api/auth/logout", None, &json!({ "refreshToken": ada.refresh_token })).await.0, 200);
    logged_in(&bed).await;
    assert_eq!(found().await, at, "before the log-in began a session");
}

#[tokio::test]
async fn a_token_of_a_refresh_is_revoked_with_its_user_though_the_session_is_over_and_no_place_was_noted() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let connection = connection(&bed).await;
    let credentials = ServiceCredentials::open(&connection).await.unwrap();
    let credential = credentials.add("revokes", "revoke").await.unwrap();
    let accounts = connection.jetstream().get_key_value("auth_users").await.unwrap();
    accounts.purge(format!("id.{}", ada.id)).await.unwrap();
    let (status, refreshed) = bed.refresh(&ada.refresh_token).await;
    assert_eq!(status, 200, "{refreshed}");
    // As at their absolute end: nothing is told of them, and access tokens live on.
    connection.jetstream().get_stream("KV_auth_sess").await.unwrap().purge().await.unwrap();
    assert_eq!(ask(&bed, &credential, "auth.revoke", &json!({ "sub": ada.id })).await, Ok(Value::Null));
    refused(&bed, refreshed["accessToken"].as_str().unwrap()).await;
}

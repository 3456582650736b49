//! What ends sessions and tokens, seen from outside: by users, by an operator, by other services.

use ::auth::account::{AccountKey, Accounts, Role};
use ::auth::standing::{self, Standing};
use nats_rpc::{CallError, Connection};
use nats_rpc_auth::{Email, ServiceCredentials};
use nats_rpc_jwt::Revoker;

use super::*;

pub(super) async fn connection(bed: &Bed) -> Connection {
    Connection::open(&bed.system.nats_of("auth")).await.unwrap()
}

pub(super) fn email(text: &str) -> Email {
    Email::parse(text).unwrap()
}

/// Whether the access token opens the profile, straight at the service.
pub(super) async fn works(bed: &Bed, token: &str) -> bool {
    match soon(bed.client.bearer(token).send::<Value>("get_user_profile", &json!({}))).await {
        Ok(_) => true,
        Err(CallError::Remote(error)) if error.status() == 401 => false,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until neither the gateway nor either instance of users takes the access token any more.
pub(super) async fn refused(bed: &Bed, token: &str) {
    let asking = async {
        let mut refusals = 0;
        while refusals < 8 {
            refusals = if works(bed, token).await { 0 } else { refusals + 1 };
        }
        while bed.post("/api/users/profile", Some(token), &json!({})).await.0 != 401 {}
    };
    soon(asking).await;
}

pub(super) async fn logged_in(bed: &Bed) -> (String, String) {
    let (status, body) = bed.log_in("ada@example.com", PASSWORD).await;
    assert_eq!(status, 200, "{body}");
    (body["accessToken"].as_str().unwrap().to_owned(), body["refreshToken"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn revocation_02_a_log_out_ends_the_access_token_and_those_of_no_other_session() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    let (other, _) = logged_in(&bed).await;
    assert!(works(&bed, &user.access_token).await);
    assert_eq!(bed.post("/api/auth/logout", None, &json!({ "refreshToken": user.refresh_token })).await.0, 200);
    refused(&bed, &user.access_token).await;
    assert!(works(&bed, &other).await);
}

#[tokio::test]
async fn refresh_01_the_reuse_of_a_refresh_token_ends_the_access_tokens_of_its_session() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    let (_, second) = bed.refresh(&user.refresh_token).await;
    let (_, third) = bed.refresh(second["refreshToken"].as_str().unwrap()).await;
    let (other, _) = logged_in(&bed).await;
    assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);
    for token in [user.access_token.as_str(), third["accessToken"].as_str().unwrap()] {
        refused(&bed, token).await;
    }
    assert!(works(&bed, &other).await);
}

#[tokio::test]
async fn one_sees_ones_sessions_and_ends_one_of_them() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    let (other, other_refresh) = logged_in(&bed).await;
    let list = async |token: &str| {
        let listed = answer(bed.http.get(format!("{}/api/auth/sessions", bed.system.gateway_url())).bearer_auth(token));
        let (status, body) = listed.await;
        assert_eq!(status, 200, "{body}");
        body["sessions"].as_array().unwrap().clone()
    };
    let sessions = list(&other).await;
    assert_eq!(sessions.len(), 2, "{sessions:?}");
    assert_eq!(sessions.iter().map(|session| session["current"] == true).collect::<Vec<_>>(), [true, false]);
    assert!(sessions.iter().all(|session| session["expiresAt"].as_u64() > session["createdAt"].as_u64()));

    let answered = async |token: &str, id: &str| {
        let url = format!("{}/api/auth/sessions/{id}", bed.system.gateway_url());
        answer(bed.http.delete(url).bearer_auth(token)).await
    };
    let end = async |token: &str, id: &str| answered(token, id).await.0;
    let mine = sessions[0]["id"].as_str().unwrap();
    let (status, body) = answered(&ada.access_token, "%ff").await;
    assert_eq!((status, &body["code"]), (400, &json!("INVALID_ARGUMENT")), "{body}");
    assert_eq!(end(&eve.access_token, mine).await, 404);
    assert_eq!(end(&ada.access_token, "AAAAAAAAAAAAAAAAAAAAAA").await, 404);
    assert_eq!(end(&ada.access_token, mine).await, 200);
    refused(&bed, &other).await;
    assert_eq!(bed.refresh(&other_refresh).await.0, 401);
    assert_eq!(list(&ada.access_token).await.len(), 1);
    assert!(works(&bed, &ada.access_token).await && works(&bed, &eve.access_token).await);
}

#[tokio::test]
async fn a_log_out_everywhere_ends_every_session_and_token() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    let (other, other_refresh) = logged_in(&bed).await;
    assert_eq!(bed.post("/api/auth/logout-all", None, &json!({})).await.0, 401);
    assert_eq!(bed.post("/api/auth/logout-all", Some(&ada.access_token), &json!({})).await.0, 200);
    for (access, refresh) in [(&ada.access_token, &ada.refresh_token), (&other, &other_refresh)] {
        refused(&bed, access).await;
        assert_eq!(bed.refresh(refresh).await.0, 401);
    }
    assert!(works(&bed, &eve.access_token).await);
    assert!(works(&bed, &logged_in(&bed).await.0).await);
}

#[tokio::test]
async fn revocation_04_who_logs_in_while_all_are_logged_out_is_wholly_in_or_wholly_out() {
    let bed = Bed::start().await;
    let mut current = bed.sign_up("ada@example.com").await.access_token;
    for _ in 0..4 {
        let nothing = json!({});
        let all_out = bed.post("/api/auth/logout-all", Some(&current), &nothing);
        let log_ins = futures::future::join_all((0..4).map(|_| logged_in(&bed)));
        let ((status, body), log_ins) = tokio::join!(all_out, log_ins);
        assert_eq!(status, 200, "{body}");
        refused(&bed, &current).await;
        for (access, refresh) in log_ins {
            let (status, refreshed) = bed.refresh(&refresh).await;
            match status {
                200 => {
                    assert!(works(&bed, &access).await);
                    assert!(works(&bed, refreshed["accessToken"].as_str().unwrap()).await);
                }
                _ => refused(&bed, &access).await,
            }
        }
        current = logged_in(&bed).await.0;
        assert!(works(&bed, &current).await);
    }
}

#[tokio::test]
async fn a_lock_ends_everything_and_keeps_the_user_out_until_it_is_taken_away() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    let connection = connection(&bed).await;
    let wrong = bed.log_in("ada@example.com", "incorrect horse").await;
    Standing::Locked.give(&connection, &email("ada@example.com")).await.unwrap().unwrap();
    refused(&bed, &ada.access_token).await;
    assert!(works(&bed, &eve.access_token).await);
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    // It looks like a wrong password.
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await, wrong);
    Standing::Unlocked.give(&connection, &email("ada@example.com")).await.unwrap().unwrap();
    assert!(works(&bed, &logged_in(&bed).await.0).await);
    assert!(!works(&bed, &ada.access_token).await);
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    assert!(Standing::Locked.give(&connection, &email("nobody@example.com")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_role_that_is_taken_away_ends_the_tokens_that_have_it_and_no_session() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    let connection = connection(&bed).await;
    let (admin, of_eve) = (Role::parse("admin").unwrap(), json!({ "userId": eve.id }));
    let accounts = Accounts::open(&connection).await.unwrap();
    accounts.grant(&AccountKey::of(&email("ada@example.com")), &admin).await.unwrap();
    let (_, granted) = bed.refresh(&ada.refresh_token).await;
    let token = granted["accessToken"].as_str().unwrap();
    assert_eq!(bed.post("/api/users/profile", Some(token), &of_eve).await.0, 200);
    standing::revoke_role(&connection, &email("ada@example.com"), &admin).await.unwrap();
    refused(&bed, token).await;
    let (status, without) = bed.refresh(granted["refreshToken"].as_str().unwrap()).await;
    assert_eq!(status, 200);
    let token = without["accessToken"].as_str().unwrap();
    assert!(works(&bed, token).await);
    assert_eq!(bed.post("/api/users/profile", Some(token), &of_eve).await.0, 403);
}

#[tokio::test]
async fn everybody_can_be_logged_out_at_once() {
    let bed = Bed::start().await;
    let (ada, eve) = (bed.sign_up("ada@example.com").await, bed.sign_up("eve@example.com").await);
    Revoker::open(&connection(&bed).await).await.unwrap().everybody().await.unwrap();
    for user in [&ada, &eve] {
        refused(&bed, &user.access_token).await;
        assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);
    }
    // The auth service heard of it as others do; whoever logs in too early does so once more.
    let came_in = async { while !works(&bed, &logged_in(&bed).await.0).await {} };
    soon(came_in).await;
}

/// What a service with `credential` is answered by the auth service.
pub(super) async fn ask(bed: &Bed, credential: &str, subject: &str, data: &Value) -> Result<Value, u16> {
    match soon(bed.client.bearer(credential).send::<Value>(subject, data)).await {
        Ok(answer) => Ok(answer),
        Err(CallError::Remote(error)) => Err(error.status()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn only_a_service_with_a_credential_asks_about_tokens_or_revokes() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let connection = connection(&bed).await;
    let accounts = Accounts::open(&connection).await.unwrap();
    for role in ["admin", "introspect", "revoke"] {
        accounts.grant(&AccountKey::of(&email("ada@example.com")), &Role::parse(role).unwrap()).await.unwrap();
    }
    let (_, admin) = bed.refresh(&ada.refresh_token).await;
    let credentials = ServiceCredentials::open(&connection).await.unwrap();
    let asks = credentials.add("asks", "introspect").await.unwrap();
    let revokes = credentials.add("revokes", "revoke").await.unwrap();
    assert!(credentials.add("asks", "revoke").await.is_err());
    let token = json!({ "token": admin["accessToken"] });
    let last = if asks.ends_with('A') { "E" } else { "A" };
    let forged = format!("{}{last}", &asks[..asks.len() - 1]);
    let elses = revokes.replacen(".revokes.", ".asks.", 1);
    for no_credential in
        [admin["accessToken"].as_str().unwrap(), admin["refreshToken"].as_str().unwrap(), &forged, &elses]
    {
        for subject in ["auth.introspect", "auth.revoke"] {
            assert_eq!(ask(&bed, no_credential, subject, &token).await, Err(401), "{subject}");
        }
    }
    assert_eq!(ask(&bed, &asks, "auth.revoke", &token).await, Err(403));
    assert_eq!(ask(&bed, &revokes, "auth.introspect", &token).await, Err(403));
    assert_eq!(ask(&bed, &asks, "auth.introspect", &token).await.unwrap()["active"], true);
    // A credential opens nothing that a user's token opens.
    assert!(!works(&bed, &asks).await);
    credentials.remove("asks").await.unwrap();
    assert_eq!(ask(&bed, &asks, "auth.introspect", &token).await, Err(401));
    assert!(credentials.remove("asks").await.is_err());
    let anew = credentials.add("asks", "introspect").await.unwrap();
    assert!(ask(&bed, &anew, "auth.introspect", &token).await.is_ok());
    assert_eq!(ask(&bed, &asks, "auth.introspect", &token).await, Err(401));
}

#[tokio::test]
async fn an_introspection_tells_what_a_good_token_says_and_of_others_that_they_are_not_good() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let credentials = ServiceCredentials::open(&connection(&bed).await).await.unwrap();
    let asks = credentials.add("asks", "introspect revoke").await.unwrap();
    let about = async |token: &str| ask(&bed, &asks, "auth.introspect", &json!({ "token": token })).await.unwrap();
    let access = about(&ada.access_token).await;
    for (field, value) in [
        ("active", json!(true)),
        ("token_type", json!("Bearer")),
        ("sub", json!(ada.id)),
        ("iss", json!("nats-rpc-auth")),
        ("aud", json!("nats-rpc")),
        ("scope", json!("profile:read profile:write")),
        ("roles", json!([])),
    ] {
        assert_eq!(access[field], value, "{field}");
    }
    assert!(access["exp"].as_u64() > access["iat"].as_u64() && access["jti"].is_string() && access["sid"].is_string());
    let refresh = about(&ada.refresh_token).await;
    assert_eq!((&refresh["active"], &refresh["token_type"]), (&json!(true), &json!("refresh_token")));
    assert_eq!((&refresh["sub"], &refresh["sid"]), (&json!(ada.id), &access["sid"]));
    // Asking uses nothing up.
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 200);

    let inactive = json!({ "active": false });
    let forged = format!("{}AAAAAAAA", &ada.access_token[..ada.access_token.len() - 8]);
    for token in ["", "nonsense", "nrt1.AAAA", &forged, &asks] {
        assert_eq!(about(token).await, inactive, "{token}");
    }
    assert_eq!(ask(&bed, &asks, "auth.revoke", &json!({ "sub": ada.id })).await, Ok(Value::Null));
    refused(&bed, &ada.access_token).await;
    let gone = async { while about(&ada.access_token).await != inactive {} };
    soon(gone).await;
    assert_eq!(about(&ada.refresh_token).await, inactive);
}

#[tokio::test]
async fn a_service_revokes_a_token_a_session_or_a_user() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let credentials = ServiceCredentials::open(&connection(&bed).await).await.unwrap();
    let credential = credentials.add("revokes", "introspect revoke").await.unwrap();
    let revoke = async |what: Value| ask(&bed, &credential, "auth.revoke", &what).await.map(drop);
    let claims =
        async |token: &str| ask(&bed, &credential, "auth.introspect", &json!({ "token": token })).await.unwrap();

    // One access token, by itself or by its id: its session goes on.
    let (one, refresh) = logged_in(&bed).await;
    revoke(json!({ "token": one })).await.unwrap();
    refused(&bed, &one).await;
    let (status, refreshed) = bed.refresh(&refresh).await;
    assert_eq!(status, 200);
    let two = refreshed["accessToken"].as_str().unwrap();
    revoke(json!({ "jti": claims(two).await["jti"] })).await.unwrap();
    refused(&bed, two).await;
    // A session, by its refresh token or by its id.
    let (three, refresh) = logged_in(&bed).await;
    revoke(json!({ "token": refresh })).await.unwrap();
    refused(&bed, &three).await;
    let (four, refresh) = logged_in(&bed).await;
    revoke(json!({ "sid": claims(&four).await["sid"] })).await.unwrap();
    refused(&bed, &four).await;
    assert_eq!(bed.refresh(&refresh).await.0, 401);
    assert!(works(&bed, &ada.access_token).await);
    // What is no token, or not any more, is no error; what is unclear is.
    for nothing in [json!({ "token": "nonsense" }), json!({ "token": four }), json!({ "sid": "A".repeat(22) })] {
        assert_eq!(revoke(nothing.clone()).await, Ok(()), "{nothing}");
    }
    for unclear in [json!({}), json!({ "sub": ada.id, "jti": "j" }), json!({ "jti": "a.b" }), json!({ "token": 7 })] {
        assert_eq!(revoke(unclear.clone()).await, Err(400), "{unclear}");
    }
    for nobody in [::users::UserId::generate().to_string(), "*".to_owned()] {
        assert_eq!(revoke(json!({ "sub": nobody })).await, Err(404));
    }
    revoke(json!({ "sub": ada.id })).await.unwrap();
    refused(&bed, &ada.access_token).await;
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
}

#[tokio::test]
async fn a_changed_password_ends_the_access_tokens_of_its_user_and_of_nobody_else() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    let (elsewhere, _) = logged_in(&bed).await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "another horse battery" });
    let wrong = json!({ "currentPassword": "wrong", "newPassword": "another horse battery" });
    let post = async |body: &Value| bed.post("/api/auth/password/change", Some(&ada.access_token), body).await;
    // One that does not come about ends nothing.
    assert_eq!(post(&wrong).await.0, 403);
    for token in [&ada.access_token, &elsewhere, &eve.access_token] {
        assert!(works(&bed, token).await);
    }
    let (status, changed) = post(&change).await;
    assert_eq!(status, 200, "{changed}");
    for token in [&ada.access_token, &elsewhere] {
        refused(&bed, token).await;
    }
    for token in [changed["accessToken"].as_str().unwrap(), &eve.access_token] {
        assert!(works(&bed, token).await);
    }
}

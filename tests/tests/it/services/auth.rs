//! Accounts and sessions.

use std::collections::HashSet;

use ::auth::account::{AccountKey, Accounts, Role};
use nats_rpc::{Code, Connection, StartError};
use nats_rpc_auth::Email;

use super::*;

async fn connection(bed: &Bed) -> Connection {
    Connection::open(&bed.system.nats_of("auth")).await.unwrap()
}

fn key(email: &str) -> AccountKey {
    AccountKey::of(&Email::parse(email).unwrap())
}

#[tokio::test]
async fn of_32_sign_ups_with_one_address_one_succeeds() {
    let bed = Bed::start().await;
    let sign_ups = (0..32).map(|n| {
        // Spellings of one address, each with a password of its own.
        let email = if n % 2 == 0 { "ada@example.com" } else { " ADA@Example.com" };
        let body = json!({ "email": email, "password": format!("password number {n}") });
        let bed = &bed;
        // Not by way of the gateway: so many of one source would be too many.
        let client = bed.client.clone();
        async move {
            match soon(client.send::<Value>("auth.signup", &body)).await {
                Ok(signed_up) => (n, (201, signed_up)),
                Err(error) => (n, (error.code().unwrap().status(), Value::Null)),
            }
        }
    });
    let answers = futures::future::join_all(sign_ups).await;
    let statuses: Vec<u16> = answers.iter().map(|(_, (status, _))| *status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 31, "{statuses:?}");

    let (winner, (_, body)) = answers.iter().find(|(_, (status, _))| *status == 201).unwrap();
    let (status, logged_in) = bed.log_in("ada@example.com", &format!("password number {winner}")).await;
    assert_eq!(status, 200);
    let token = logged_in["accessToken"].as_str();
    let (_, profile) = bed.post("/api/users/profile", token, &json!({})).await;
    assert_eq!(profile["userId"], body["userId"]);
    let (status, _) = bed.log_in("ada@example.com", &format!("password number {}", (winner + 1) % 32)).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_refresh_token_is_good_for_one_use() {
    let bed = Bed::start().await;
    let first = bed.sign_up("ada@example.com").await;
    let (status, second) = bed.refresh(&first.refresh_token).await;
    assert_eq!(status, 200);
    assert_ne!(second["accessToken"], first.access_token.as_str());
    let second = second["refreshToken"].as_str().unwrap().to_owned();

    // Lost answers and double clicks: the same successor again.
    let (status, again) = bed.refresh(&first.refresh_token).await;
    assert_eq!((status, again["refreshToken"].as_str()), (200, Some(second.as_str())));

    let (_, third) = bed.refresh(&second).await;
    let third = third["refreshToken"].as_str().unwrap().to_owned();
    // Two generations old: somebody else has it. The whole session ends.
    assert_eq!(bed.refresh(&first.refresh_token).await.0, 401);
    assert_eq!(bed.refresh(&third).await.0, 401);

    for wrong in ["", "nrt1.", "nrt1.AAAA", first.access_token.as_str()] {
        assert_eq!(bed.refresh(wrong).await.0, 401, "{wrong:?}");
    }
    assert_eq!(bed.post("/api/auth/refresh", None, &json!({ "refreshToken": 7 })).await.0, 400);
    assert_eq!(bed.post("/api/auth/refresh", None, &json!({})).await.0, 400);
}

#[tokio::test]
async fn concurrent_refreshes_share_one_successor() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    let refreshes = futures::future::join_all((0..16).map(|_| bed.refresh(&user.refresh_token))).await;
    let successors: HashSet<_> =
        refreshes.iter().map(|(status, body)| (*status, body["refreshToken"].to_string())).collect();
    assert_eq!(successors.len(), 1, "{refreshes:?}");
    assert_eq!(successors.iter().next().unwrap().0, 200);
}

#[tokio::test]
async fn a_log_out_ends_the_session_and_can_be_repeated() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    let (_, other) = bed.log_in("ada@example.com", PASSWORD).await;
    let body = json!({ "refreshToken": user.refresh_token });
    for _ in 0..2 {
        assert_eq!(bed.post("/api/auth/logout", None, &body).await.0, 200);
    }
    assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);
    // One's other sessions go on.
    assert_eq!(bed.refresh(other["refreshToken"].as_str().unwrap()).await.0, 200);
}

#[tokio::test]
async fn roles_are_those_of_the_account_at_each_refresh() {
    let bed = Bed::start().await;
    let (ada, eve) = (bed.sign_up("ada@example.com").await, bed.sign_up("eve@example.com").await);
    let of_eve = json!({ "userId": eve.id });
    let accounts = Accounts::open(&connection(&bed).await).await.unwrap();
    let admin = Role::parse("admin").unwrap();

    accounts.grant(&key("Ada@example.com"), &admin).await.unwrap();
    assert_eq!(bed.post("/api/users/profile", Some(&ada.access_token), &of_eve).await.0, 403);
    let (_, granted) = bed.refresh(&ada.refresh_token).await;
    let token = granted["accessToken"].as_str();
    let (status, profile) = bed.post("/api/users/profile", token, &of_eve).await;
    assert_eq!((status, &profile["email"]), (200, &json!("eve@example.com")));
    let nobody = json!({ "userId": ::users::UserId::generate().to_string() });
    assert_eq!(bed.post("/api/users/profile", token, &nobody).await.0, 404);

    accounts.revoke(&key("ada@example.com"), &admin).await.unwrap();
    let (_, revoked) = bed.refresh(granted["refreshToken"].as_str().unwrap()).await;
    assert_eq!(bed.post("/api/users/profile", revoked["accessToken"].as_str(), &of_eve).await.0, 403);
    assert!(accounts.grant(&key("nobody@example.com"), &admin).await.is_err());
}

#[tokio::test]
async fn without_its_account_a_session_ends() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    let bucket = connection(&bed).await.jetstream().get_key_value("auth_users").await.unwrap();
    bucket.purge(key("ada@example.com").as_str()).await.unwrap();
    assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);

    // The address can sign up again, and the old session does not come back with it.
    let anew = bed.sign_up("ada@example.com").await;
    assert_ne!(anew.id, user.id);
    assert_eq!(bed.refresh(&user.refresh_token).await.0, 401);
}

#[tokio::test]
async fn a_log_in_writes_a_profile_that_is_missing() {
    let bed = Bed::start().await;
    let user = bed.sign_up("ada@example.com").await;
    connection(&bed).await.jetstream().get_key_value("users").await.unwrap().purge(&user.id).await.unwrap();
    assert_eq!(bed.post("/api/users/profile", Some(&user.access_token), &json!({})).await.0, 404);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
    let (status, profile) = bed.post("/api/users/profile", Some(&user.access_token), &json!({})).await;
    assert_eq!((status, profile), (200, json!({ "userId": user.id, "email": "ada@example.com" })));
}

#[tokio::test]
async fn a_password_that_cannot_be_hashed_whole_is_refused() {
    let bed = Bed::start().await;
    for password in ["", "short", "nul in \0 the middle", &"a".repeat(72), &"é".repeat(36)] {
        let body = json!({ "email": "ada@example.com", "password": password });
        assert_eq!(bed.post("/api/auth/signup", None, &body).await.0, 400, "{password:?}");
    }
    for body in [
        json!({ "email": "ada@example.com" }),
        json!({ "password": PASSWORD }),
        json!({ "email": "ada@example.com", "password": null }),
        json!({ "email": "ada@example.com", "password": ["correct horse battery"] }),
        json!({ "email": "no address", "password": PASSWORD }),
        json!([]),
    ] {
        assert_eq!(bed.post("/api/auth/signup", None, &body).await.0, 400, "{body}");
    }
    let longest = "a longest ".repeat(7) + "a";
    let body = json!({ "email": "ada@example.com", "password": longest });
    assert_eq!(bed.post("/api/auth/signup", None, &body).await.0, 201);
    assert_eq!(bed.log_in("ada@example.com", &longest).await.0, 200);
    assert_eq!(bed.log_in("ada@example.com", &(longest + "b")).await.0, 401);
}

#[tokio::test]
async fn a_log_in_hashes_anew_what_was_hashed_too_cheaply() {
    let bed = Bed::start().await;
    bed.sign_up("ada@example.com").await;
    let cost = async |bed: &Bed| {
        let accounts = Accounts::open(&connection(bed).await).await.unwrap();
        accounts.find(&key("ada@example.com")).await.unwrap().unwrap().password_hash[4..6].to_owned()
    };
    assert_eq!(cost(&bed).await, "10");
    let Bed { system, client, http, server } = bed;
    soon(system.stop()).await;
    let dearer = options(&server).var("BCRYPT_COST", "11");
    let system = soon(System::start(dearer, &mut Report::silent())).await.unwrap();
    let bed = Bed { system, client, http, server };
    assert_eq!(bed.log_in("ada@example.com", "incorrect horse").await.0, 401);
    assert_eq!(cost(&bed).await, "10");
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
    assert_eq!(cost(&bed).await, "11");
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 200);
}

#[tokio::test]
async fn secrets_that_are_missing_short_or_equal_stop_the_start() {
    let server = server();
    let refused = async |access: Option<&'static str>, refresh: Option<&'static str>| {
        let service = ::auth::service(move |name| match name {
            "JWT_SECRET" => access.map(str::to_owned),
            "JWT_REFRESH_SECRET" => refresh.map(str::to_owned),
            _ => None,
        });
        service.start(nats(&server)).await.unwrap_err().to_string()
    };
    let both = refused(Some("short"), None).await;
    assert!(both.contains("JWT_SECRET has 5 bytes") && both.contains("JWT_REFRESH_SECRET is not set"), "{both}");
    let neither = refused(None, Some(REFRESH_SECRET)).await;
    assert!(["auth_jwks", "auth provision", "JWT_SECRET"].iter().all(|word| neither.contains(word)), "{neither}");
    assert!(refused(Some(SECRET), None).await.contains("JWT_REFRESH_SECRET is not set"));
    assert!(refused(Some("your-secret-key"), Some(REFRESH_SECRET)).await.contains("JWT_SECRET has 15 bytes"));
    let same = refused(Some(SECRET), Some(SECRET)).await;
    assert!(same.contains("JWT_SECRET and JWT_REFRESH_SECRET are the same"), "{same}");
    assert!(!same.contains(SECRET));
}

#[tokio::test]
async fn buckets_that_are_missing_stop_the_start_and_are_named() {
    let server = server();
    let vars = |name: &str| match name {
        "JWT_SECRET" => Some(SECRET.to_owned()),
        "JWT_REFRESH_SECRET" => Some(REFRESH_SECRET.to_owned()),
        _ => None,
    };
    for (bucket, service) in [("auth_rev", ::auth::service(vars)), ("users", ::users::service(vars).guard(guard()))] {
        let error = service.start(nats(&server)).await.unwrap_err();
        assert!(matches!(error, StartError::Setup { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("bucket {bucket} does not exist")) && text.contains("provision"), "{text}");
    }
}

#[tokio::test]
async fn the_service_answers_over_nats_as_it_does_over_http() {
    let bed = Bed::start().await;
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let signed_up: Value = bed.client.send("auth.signup", &body).await.unwrap();
    User::of(&signed_up);
    let refused = bed.client.send::<Value>("auth.signup", &body).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Conflict));
    let token = json!({ "refreshToken": signed_up["refreshToken"] });
    bed.client.send::<()>("auth.logout", &token).await.unwrap();
    let refused = bed.client.send::<Value>("auth.refresh", &token).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unauthenticated));
}

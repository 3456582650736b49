//! Profiles.

use nats_rpc::StartError;

use super::*;

#[tokio::test]
async fn one_sees_ones_own_profile_with_id_and_email() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("Ada@Example.com").await;
    let token = Some(ada.access_token.as_str());
    let expected = (200, json!({ "userId": ada.id, "email": "ada@example.com" }));
    for body in [json!({}), json!({ "userId": null }), json!({ "userId": ada.id })] {
        assert_eq!(bed.post("/api/users/profile", token, &body).await, expected, "{body}");
    }
    let me = bed.http.get(format!("{}/api/users/me", bed.system.gateway_url())).bearer_auth(&ada.access_token);
    assert_eq!(answer(me).await, expected);
    let by_subject: Value =
        bed.client.bearer(&ada.access_token).send(format!("users.{}.get", ada.id), &json!({})).await.unwrap();
    assert_eq!(by_subject, expected.1);
}

#[tokio::test]
async fn nobody_but_an_admin_sees_other_profiles() {
    let bed = Bed::start().await;
    let (ada, eve) = (bed.sign_up("ada@example.com").await, bed.sign_up("eve@example.com").await);
    let token = Some(eve.access_token.as_str());
    let client = bed.client.bearer(&eve.access_token);
    for other in [ada.id.as_str(), "", "*", ">", "a.b", &eve.id.to_uppercase()] {
        let body = json!({ "userId": other });
        assert_eq!(bed.post("/api/users/profile", token, &body).await.0, 403, "{other:?}");
    }
    let by_subject = client.send::<Value>(format!("users.{}.get", ada.id), &json!({})).await.unwrap_err();
    assert_eq!(by_subject.code().unwrap().status(), 403);
}

#[tokio::test]
async fn a_user_in_the_body_proves_nothing() {
    let bed = Bed::start().await;
    let (ada, eve) = (bed.sign_up("ada@example.com").await, bed.sign_up("eve@example.com").await);
    let spoofed = json!({ "sub": ada.id, "userId": ada.id, "email": "ada@example.com", "roles": ["admin"] });
    for body in [json!({ "user": spoofed }), json!({ "user": spoofed, "token": ada.access_token, "userId": eve.id })] {
        let (status, profile) = bed.post("/api/users/profile", Some(&eve.access_token), &body).await;
        assert_eq!((status, &profile["userId"]), (200, &json!(eve.id)));
        let profile: Value = bed.client.bearer(&eve.access_token).send("get_user_profile", &body).await.unwrap();
        assert_eq!(profile["userId"], json!(eve.id));
        assert_eq!(bed.post("/api/users/profile", None, &body).await.0, 401);
        let refused = bed.client.send::<Value>("get_user_profile", &body).await.unwrap_err();
        assert_eq!(refused.code().unwrap().status(), 401);
    }
    let body = json!({ "userId": ada.id, "user": true });
    assert_eq!(bed.post("/api/users/profile", Some(&eve.access_token), &body).await.0, 403);
}

#[tokio::test]
async fn a_profile_is_changed_in_the_fields_of_the_list_and_no_others() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let client = bed.client.bearer(&ada.access_token);
    let change = async |body: Value| client.send::<Value>("update_user_profile", &body).await;
    let changed = change(json!({ "displayName": "Ada", "user": { "sub": "x" } })).await.unwrap();
    assert_eq!(changed, json!({ "userId": ada.id, "email": "ada@example.com", "displayName": "Ada" }));
    for refused in [
        json!({ "email": "eve@example.com" }),
        json!({ "userId": "x" }),
        json!({ "displayName": "Ada", "roles": ["admin"] }),
        json!({ "displayName": "a".repeat(65) }),
    ] {
        assert_eq!(change(refused.clone()).await.unwrap_err().code().unwrap().status(), 400, "{refused}");
    }
    // Changes of different fields at once: none is lost.
    let changes =
        (0..16).map(|n| change(if n % 2 == 0 { json!({ "displayName": "A" }) } else { json!({ "bio": "b" }) }));
    for outcome in futures::future::join_all(changes).await {
        outcome.unwrap();
    }
    let profile: Value = client.send("get_user_profile", &json!({})).await.unwrap();
    assert_eq!((&profile["displayName"], &profile["bio"]), (&json!("A"), &json!("b")));
    let refused = bed.client.send::<Value>("update_user_profile", &json!({ "bio": "c" })).await.unwrap_err();
    assert_eq!(refused.code().unwrap().status(), 401);
}

#[tokio::test]
async fn two_instances_share_the_requests_and_each_is_executed_once() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    for _ in 0..100 {
        assert_eq!(bed.post("/api/users/profile", Some(&ada.access_token), &json!({})).await.0, 200);
    }
    let executed = bed.system.users().iter().map(|users| {
        users.stats().iter().filter(|stats| stats.handler == "get_user_profile").map(|stats| stats.requests).sum()
    });
    let executed: Vec<u64> = executed.collect();
    assert_eq!(executed.iter().sum::<u64>(), 100, "{executed:?}");
    assert!(executed.iter().all(|requests| *requests >= 20), "{executed:?}");
}

#[tokio::test]
async fn one_instance_hears_of_a_new_user() {
    let bed = Bed::start().await;
    let mut events = bed.client.connection().nats().subscribe("user.created").await.unwrap();
    bed.client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    let ada = bed.sign_up("ada@example.com").await;
    let event = soon(futures::StreamExt::next(&mut events)).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&event.payload).unwrap(), json!({ "userId": ada.id }));
    let heard = || {
        let stats = bed.system.users().iter().flat_map(nats_rpc::ServiceHandle::stats);
        stats.filter(|stats| stats.handler == "user_created").map(|stats| stats.requests).sum::<u64>()
    };
    soon(async {
        while heard() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The server has told every instance before it answers this one.
    for users in bed.system.users() {
        users.check(crate::support::PATIENCE).await.unwrap();
    }
    assert_eq!(heard(), 1);
}

#[tokio::test]
async fn the_service_does_not_start_without_its_guard() {
    let server = server();
    let connection = nats_rpc::Connection::open(&nats(&server)).await.unwrap();
    ::users::Users::provision(&connection.jetstream(), ::users::Replicas::ONE).await.unwrap();
    let error = ::users::service(|_| None).start(nats(&server)).await.unwrap_err();
    let StartError::Invalid(lines) = &error else { panic!("{error}") };
    let of_the_guard = lines.iter().filter(|line| line.contains("handlers.rs:") && line.contains("guard `JwtGuard`"));
    assert_eq!(of_the_guard.count(), 3, "{lines:#?}");
}

//! Users who are deleted: nothing of them is left, whatever goes wrong or runs meanwhile.

use ::auth::account::{AccountKey, Accounts};
use ::auth::standing::Standing;
use futures::{FutureExt, TryStreamExt};

use super::revocation::{connection, email, refused, works};
use super::*;

#[tokio::test]
async fn of_a_deleted_user_nothing_is_left_and_the_address_is_free() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let eve = bed.sign_up("eve@example.com").await;
    Standing::Deleted.give(&connection(&bed).await, &email("ada@example.com")).await.unwrap().unwrap();
    refused(&bed, &ada.access_token).await;
    assert!(works(&bed, &eve.access_token).await);
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 401);
    for (bucket, left) in [("users", &eve.id), ("auth_users", &format!("id.{}", eve.id))] {
        let bucket = bed.client.connection().jetstream().get_key_value(bucket).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        assert!(keys.contains(left) && !keys.iter().any(|key| key.contains(&ada.id)), "{keys:?}");
        assert!(!keys.contains(&email("ada@example.com").key()), "{keys:?}");
    }
    let anew = bed.sign_up("ada@example.com").await;
    assert!(works(&bed, &anew.access_token).await && !works(&bed, &ada.access_token).await);
}

#[tokio::test]
async fn a_deletion_that_failed_half_way_is_done_again_and_nobody_comes_in_meanwhile() {
    let bed = Bed::start().await;
    let ada = bed.sign_up("ada@example.com").await;
    let (connection, ada_s) = (connection(&bed).await, email("ada@example.com"));
    let jetstream = connection.jetstream();
    jetstream.delete_key_value("users").await.unwrap();
    assert!(Standing::Deleted.give(&connection, &ada_s).await.is_err());
    ::users::Users::provision(&jetstream, ::users::Replicas::ONE).await.unwrap();
    refused(&bed, &ada.access_token).await;
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    assert_eq!(bed.log_in("ada@example.com", PASSWORD).await.0, 401);
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    assert_eq!(bed.post("/api/auth/signup", None, &body).await.0, 409);

    let deleted = Standing::Deleted.give(&connection, &ada_s).await.unwrap().unwrap();
    assert_eq!(deleted.user_id.to_string(), ada.id);
    assert!(Standing::Deleted.give(&connection, &ada_s).await.unwrap().is_none());
    let anew = bed.sign_up("ada@example.com").await;
    // A deletion that comes late removes nobody who has the address by now.
    Accounts::open(&connection).await.unwrap().remove(&AccountKey::of(&ada_s), deleted.user_id).await.unwrap();
    assert!(works(&bed, &anew.access_token).await && bed.refresh(&anew.refresh_token).await.0 == 200);
}

#[tokio::test]
async fn a_log_in_under_way_leaves_nothing_of_a_user_who_is_deleted_meanwhile() {
    let bed = Bed::start().await;
    let connection = connection(&bed).await;
    let attempts = connection.jetstream().get_key_value("auth_backoff").await.unwrap();
    let mut attempts = attempts.watch(">").await.unwrap();
    for n in 0..3 {
        let address = format!("ada{n}@example.com");
        let ada = bed.sign_up(&address).await;
        let deletion = async {
            // A log-in looks at the account once its attempt is counted, and hashes then.
            soon(attempts.try_next()).await.unwrap().unwrap();
            Standing::Deleted.give(&connection, &email(&address)).await.unwrap().unwrap();
        };
        let body = json!({ "email": address, "password": PASSWORD });
        let log_in = bed.client.send::<Value>("auth.login", &body);
        let (_, tokens) = tokio::join!(deletion, soon(log_in));
        for bucket in ["users", "auth_users"] {
            let bucket = connection.jetstream().get_key_value(bucket).await.unwrap();
            let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
            assert!(keys.is_empty(), "{keys:?}");
        }
        if let Ok(tokens) = tokens {
            refused(&bed, tokens["accessToken"].as_str().unwrap()).await;
        }
        refused(&bed, &ada.access_token).await;
        // What the log-in counted is taken back meanwhile, or not.
        while attempts.try_next().now_or_never().is_some() {}
    }
}

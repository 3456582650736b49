//! Users who are deleted: nothing of them is left, whatever goes wrong or runs meanwhile.

use ::auth::account::{AccountKey, Accounts};
use ::auth::standing::Standing;
use futures::TryStreamExt;

use super::held::Held;
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

/// The system, with writes at `keys` in the test's hands.
async fn with_held(keys: &str) -> (Bed, Held) {
    let (server, held) = Held::server(keys).await;
    (Bed::start_on(server, options).await, held)
}

/// Deletes ada; the writes that are held are all that comes after that.
async fn delete(bed: &Bed) {
    Standing::Deleted.give(&connection(bed).await, &email("ada@example.com")).await.unwrap().unwrap();
}

async fn nothing_is_left(bed: &Bed) {
    for bucket in ["users", "auth_users"] {
        let bucket = bed.client.connection().jetstream().get_key_value(bucket).await.unwrap();
        let keys: Vec<String> = bucket.keys().await.unwrap().try_collect().await.unwrap();
        assert!(keys.is_empty(), "{keys:?}");
    }
}

#[tokio::test]
async fn a_log_in_under_way_leaves_nothing_of_a_user_who_is_deleted_meanwhile() {
    let (bed, mut held) = with_held("auth_backoff.password.*").await;
    let ada = bed.sign_up("ada@example.com").await;
    let deletion = async {
        // The attempt begins before the account is looked at, and ends once the password was found right.
        let taken_back = held.hold(1).await;
        delete(&bed).await;
        held.release(taken_back).await;
    };
    let (_, (status, body)) = tokio::join!(deletion, bed.log_in("ada@example.com", PASSWORD));
    assert_eq!(status, 401, "{body}");
    nothing_is_left(&bed).await;
    refused(&bed, &ada.access_token).await;
}

#[tokio::test]
async fn a_sign_up_under_way_leaves_nothing_of_a_user_who_is_deleted_meanwhile() {
    for keys in ["auth_users.id.*", "users.*"] {
        let (bed, mut held) = with_held(keys).await;
        let deletion = async {
            let written = held.hold(0).await;
            delete(&bed).await;
            held.release(written).await;
        };
        let body = json!({ "email": "ada@example.com", "password": PASSWORD });
        let (_, (status, body)) = tokio::join!(deletion, bed.post("/api/auth/signup", None, &body));
        assert_eq!(status, 409, "{keys}: {body}");
        nothing_is_left(&bed).await;
    }
}

#[tokio::test]
async fn who_is_looked_for_while_they_are_deleted_is_not_noted_again() {
    let (bed, mut held) = with_held("auth_users.id.*").await;
    let ada = bed.sign_up("ada@example.com").await;
    let accounts = bed.client.connection().jetstream().get_key_value("auth_users").await.unwrap();
    accounts.purge(format!("id.{}", ada.id)).await.unwrap();
    let deletion = async {
        let noted = held.hold(0).await;
        delete(&bed).await;
        held.release(noted).await;
    };
    let nothing = json!({});
    let looking = bed.post("/api/auth/logout-all", Some(&ada.access_token), &nothing);
    let (_, (status, body)) = tokio::join!(deletion, looking);
    assert_eq!(status, 401, "{body}");
    nothing_is_left(&bed).await;
}

#[tokio::test]
async fn a_note_that_comes_while_the_account_is_removed_goes_with_it() {
    let (bed, mut held) = with_held("auth_users.*").await;
    let ada = bed.sign_up("ada@example.com").await;
    let (user, key) = (::users::UserId::parse(&ada.id).unwrap(), AccountKey::of(&email("ada@example.com")));
    let noting = async {
        // The lock passes, and the removal comes once the first note is gone.
        let removed = held.hold(1).await;
        assert!(Accounts::open(&connection(&bed).await).await.unwrap().note(&key, user).await.unwrap());
        held.release(removed).await;
    };
    tokio::join!(noting, delete(&bed));
    nothing_is_left(&bed).await;
}

//! Users of another system: the hashes that Node's bcrypt made of their passwords verify, and are replaced.

use ::auth::account::{Account, AccountKey, Accounts};
use nats_rpc::Connection;
use nats_rpc_auth::Email;

use super::*;

/// What Node's bcrypt makes of a password: it neither normalises it nor reads more than 72 bytes.
fn node_hash(password: &str) -> String {
    let read = &password.as_bytes()[..password.len().min(72)];
    bcrypt::hash(read, 10).unwrap().replacen("$2b$", "$2a$", 1)
}

#[tokio::test]
async fn a_migrated_hash_verifies_and_is_replaced() {
    let bed = Bed::start().await;
    let accounts = Accounts::open(&Connection::open(&bed.system.nats_of("auth")).await.unwrap()).await.unwrap();
    let long = "a long password of another system, ".repeat(3);
    for (name, password) in [("long", long.as_str()), ("spelt", "cafe\u{301} noir"), ("short", "secret")] {
        let email = format!("{name}@example.com");
        let key = AccountKey::of(&Email::parse(&email).unwrap());
        let hash = node_hash(password);
        assert!(accounts.create(&key, &Account::new(hash.clone())).await.unwrap());
        assert_eq!(bed.log_in(&email, &format!("x{password}")).await.0, 401, "{name}");
        assert_eq!(bed.log_in(&email, password).await.0, 200, "{name}");
        let stored = accounts.find(&key).await.unwrap().unwrap().password_hash;
        assert_eq!(stored == hash, name == "short", "{name}: replaced unless it is in our form");
        assert_eq!(bed.log_in(&email, password).await.0, 200, "{name}");
        assert_eq!(accounts.find(&key).await.unwrap().unwrap().password_hash, stored, "{name}: once");
        // Every byte counts from now on.
        assert_eq!(bed.log_in(&email, &format!("{password}x")).await.0, 401, "{name}");
    }
    // New passwords keep the rules.
    let body = json!({ "email": "new@example.com", "password": long });
    assert_eq!(bed.post("/api/auth/signup", None, &body).await.0, 400);
}

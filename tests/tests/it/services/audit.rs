//! What auth tells of what it did.

use std::collections::BTreeSet;

use futures::StreamExt;
use nats_rpc::auth::{AuditEvent, AuditRecord};

use super::passwords::{RESET_SUBJECT, reset, reset_token};
use super::*;
use crate::support::PATIENCE;

#[tokio::test]
async fn everything_that_happens_is_told_and_no_secret_is() {
    let bed = Bed::start_with(|options| options.var("PASSWORD_RESET_SUBJECT", RESET_SUBJECT)).await;
    let mut told = bed.client.connection().nats().subscribe("auth.audit.>").await.unwrap();
    bed.client.connection().echo(PATIENCE).await.unwrap();

    let ada = bed.sign_up("ada.lovelace@example.com").await;
    let (_, logged_in) = bed.log_in("ada.lovelace@example.com", PASSWORD).await;
    while bed.log_in("ada.lovelace@example.com", "wrong").await.0 != 429 {}
    bed.log_in("nobody.at.all@example.com", "incorrect horse battery").await;
    let (_, second) = bed.refresh(&ada.refresh_token).await;
    let (_, third) = bed.refresh(second["refreshToken"].as_str().unwrap()).await;
    assert_eq!(bed.refresh(&ada.refresh_token).await.0, 401);
    let token = reset_token(&bed, "ada.lovelace@example.com").await;
    assert_eq!(reset(&bed, &token, "another horse battery").await, 200);
    let (_, anew) = bed.log_in("ada.lovelace@example.com", "another horse battery").await;
    let change = json!({ "currentPassword": "another horse battery", "newPassword": "a third horse battery" });
    let (status, changed) = bed.post("/api/auth/password/change", anew["accessToken"].as_str(), &change).await;
    assert_eq!(status, 200, "{changed}");
    let last = json!({ "refreshToken": changed["refreshToken"] });
    assert_eq!(bed.post("/api/auth/logout", None, &last).await.0, 200);

    let (mut names, mut accounts) = (BTreeSet::new(), BTreeSet::new());
    let mut all = String::new();
    while !names.contains("logged_out") {
        let message = soon(told.next()).await.unwrap();
        let record: AuditRecord = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(message.subject.as_str(), format!("auth.audit.{}", record.event.name()));
        if let AuditEvent::LoggedIn { user, .. } | AuditEvent::PasswordChanged { user } = &record.event {
            assert_eq!(*user, ada.id);
        }
        if let AuditEvent::LogInRefused { source, .. } | AuditEvent::Throttled { source, .. } = &record.event {
            assert_eq!(source.as_ref().unwrap().len(), 43, "a hash of where it came from");
        }
        if let AuditEvent::LogInRefused { account, user: Some(_), .. } | AuditEvent::Throttled { account, .. } =
            &record.event
        {
            accounts.insert(account.clone());
        }
        names.insert(record.event.name());
        all.push_str(std::str::from_utf8(&message.payload).unwrap());
    }
    let expected = [
        "log_in_refused",
        "logged_in",
        "logged_out",
        "password_changed",
        "password_reset",
        "password_reset_requested",
        "signed_up",
        "throttled",
        "token_reused",
    ];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(accounts.len(), 1, "an account has one name, whatever the event");

    let text = |answer: &Value, field: &str| answer[field].as_str().unwrap().to_owned();
    let mut secrets = vec![
        "ada.lovelace".to_owned(),
        "nobody.at.all".to_owned(),
        "example.com".to_owned(),
        "horse".to_owned(),
        "$2b$".to_owned(),
        "127.0.0.1".to_owned(),
        SECRET.to_owned(),
        REFRESH_SECRET.to_owned(),
        token,
        ada.access_token.clone(),
        ada.refresh_token.clone(),
    ];
    for answer in [&logged_in, &second, &third, &anew, &changed] {
        secrets.extend([text(answer, "accessToken"), text(answer, "refreshToken")]);
    }
    for secret in secrets {
        assert!(!all.contains(&secret), "{secret:?} in {all}");
    }
}

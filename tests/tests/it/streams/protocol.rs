//! What a caller makes of a service that does not keep to the protocol.

use super::by_hand::{Fake, faked, frame, publish};
use super::*;

#[tokio::test]
async fn a_message_missed_repeated_or_not_granted_ends_the_stream_with_an_error() {
    for wrong in ["item 1", "item 3", "end 1", "end 3", "error 3", "ask 2", "ask 0"] {
        let (_server, items, mut fake) = faked().await;
        fake.say(wrong, "2").await;
        let (items, error) = all(items).await;
        assert!(
            items == [1] && matches!(error, Some(CallError::IncompleteResponse { .. })),
            "{wrong}: {items:?} {error:?}"
        );
        assert_eq!(fake.heard().await, "cancel", "{wrong}");
    }
    let (_server, items, mut fake) = faked().await;
    for flood in ["item 2", "item 3", "item 4", "item 5"] {
        fake.say(flood, "2").await;
    }
    // Before an item is taken, for then more would be granted.
    assert_eq!(fake.heard().await, "cancel");
    let (items, error) = all(items).await;
    assert!(
        items == [1, 2, 2, 2] && matches!(error, Some(CallError::IncompleteResponse { .. })),
        "{items:?} {error:?}"
    );
}

#[tokio::test]
async fn what_others_send_to_the_inbox_changes_nothing() {
    let (_server, items, mut fake) = faked().await;
    let mut other = Fake::new(&fake.nats, fake.caller.clone().into()).await;
    // Another instance, one that names no inbox, one that names none at all, and none of ours.
    other.say("item 2", "666").await;
    assert_eq!(other.heard().await, "cancel");
    for reply in [Some("admin.reset"), None] {
        for said in ["item 2", "end 2", "error 2", "ask 7", "", "cancel", "credit 5", "open 3", "nonsense"] {
            publish(&fake.nats, &fake.caller, reply, said, "666").await;
        }
    }
    fake.say("ask 1", "").await;
    assert_eq!(fake.heard().await, "credit 4");
    fake.say("item 2", "2").await;
    fake.say("end 3", "").await;
    let (items, error) = all(items).await;
    assert!(items == [1, 2] && error.is_none(), "{items:?} {error:?}");
    // After the end nothing is said but that nobody listens.
    fake.say("item 4", "4").await;
    let heard = fake.heard().await;
    let heard = if heard == "credit 6" { fake.heard().await } else { heard };
    assert_eq!(heard, "cancel");
}

#[tokio::test]
async fn a_service_that_names_no_inbox_is_not_talked_to() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    let mut victim = service.subscribe("admin.reset").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await;
    for reply in [Some("admin.reset"), None] {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.stream::<u32>("fake.stream", &()).await }
        });
        let caller = soon(calls.next()).await.unwrap().reply.unwrap();
        publish(&service, &caller, reply, "item 1", "1").await;
        let error = soon(call).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::IncompleteResponse { .. }), "{error}");
    }
    client.connection().round_trip(PATIENCE).await.unwrap();
    publish(&service, "admin.reset", None, "mine", "").await;
    assert_eq!(frame(&soon(victim.next()).await.unwrap()), "mine");
}

#[tokio::test]
async fn a_service_that_falls_silent_is_known_by_its_silence() {
    let (_server, items, fake) = faked().await;
    let (items, error) = all(items).await;
    assert!(items == [1] && matches!(error, Some(CallError::IncompleteResponse { .. })), "{items:?} {error:?}");
    drop(fake);
}

#[tokio::test]
async fn an_error_of_a_foreign_service_is_read() {
    let (_server, items, mut fake) = faked().await;
    fake.say("error 2", r#"{"code":"TAKEN","message":"taken","details":[1]}"#).await;
    let (_, error) = all(items).await;
    let Some(CallError::Remote(error)) = error else { panic!("{error:?}") };
    assert_eq!((error.status(), error.message(), error.name()), (409, "taken", Some("TAKEN")));
}

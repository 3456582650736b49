//! Rolling updates: peers of the version before, which know no instance id and no `ping`, and of the one to come.

use super::by_hand::{Fake, faked, frame, publish};
use super::*;

/// What the version before read of a frame: it passes over no word that it does not know.
fn old_frame(message: &Message) -> (&str, u64) {
    let (word, number) = frame(message).split_once(' ').expect("a word and a number");
    assert!(["item", "ask", "end", "error"].contains(&word), "{word:?} is not known to it");
    assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{number:?}");
    (word, number.parse().unwrap())
}

#[tokio::test]
async fn a_caller_of_the_version_before_reads_a_stream() {
    let stage = stage().await;
    let caller = foreign(&stage.server).await;
    let inbox = caller.new_inbox();
    let mut frames = caller.subscribe(inbox.clone()).await.unwrap();
    publish(&caller, "stream.gated", Some(&inbox), "open 2", "").await;
    let ping = request(&caller, "$SRV.PING.stream", "").await;
    let ping: serde_json::Value = serde_json::from_slice(&ping.payload).unwrap();
    let mut address = None;
    let mut received = 0;
    while received < 6 {
        let message = soon(frames.next()).await.unwrap();
        // It listens to the first address alone.
        let origin = message.reply.clone().unwrap();
        assert_eq!(address.get_or_insert_with(|| origin.clone()), &origin);
        assert!(origin.starts_with("_INBOX"), "{origin}");
        let instance = message.headers.as_ref().unwrap().get("Rpc-Instance").unwrap();
        assert_eq!(ping["id"], instance.as_str(), "the id that `$SRV` shows");
        match old_frame(&message) {
            ("ask", count) => assert_eq!(count, received),
            ("item", count) => {
                received += 1;
                assert_eq!(count, received);
            }
            other => panic!("{other:?}"),
        }
        publish(&caller, &origin, None, &format!("credit {}", received + 2), "").await;
        stage.seen.gate.add_permits(1);
    }
    // Silent for a second, the service asks with the word that this caller knows.
    stage.seen.gate.forget_permits(usize::MAX);
    let asked = loop {
        let message = soon(frames.next()).await.unwrap();
        if old_frame(&message).0 == "ask" {
            break message;
        }
    };
    assert!(asked.payload.is_empty());
}

/// Its frames have no instance id, and its question is `ask`; the version to come says `ping`.
#[tokio::test]
async fn a_service_of_another_version_is_read() {
    for ping in ["ask 1", "ping 1"] {
        let (_server, items, mut fake) = faked().await;
        fake.say(ping, "").await;
        assert_eq!(fake.heard().await, "credit 4", "{ping}");
        fake.say("item 2", "2").await;
        fake.say("end 3", "").await;
        let (items, error) = all(items).await;
        assert!(items == [1, 2] && error.is_none(), "{ping}: {items:?} {error:?}");
    }
    let (_server, items, mut fake) = faked().await;
    fake.say("ping 0", "").await;
    let (_, error) = all(items).await;
    assert!(matches!(error, Some(CallError::IncompleteResponse { .. })), "a ping with a wrong count: {error:?}");
}

/// As across accounts: frames of one instance have several addresses, and another instance may share one of them.
#[tokio::test]
async fn the_instance_and_not_the_address_tells_who_sends() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.window(4).item_timeout(PATIENCE);
    let call = tokio::spawn(async move { client.stream::<u32>("fake.stream", &()).await.unwrap() });
    let reply = soon(calls.next()).await.unwrap().reply.unwrap();
    let mut addresses = Vec::new();
    for _ in 0..4 {
        addresses.push(Fake::new(&service, reply.clone()).await);
    }
    let say = async |address: &Fake, instance: &str, word: &str, body: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("Rpc-Stream", word);
        headers.insert("Rpc-Instance", instance);
        let (to, address) = (address.caller.clone(), address.address.clone());
        service.publish_with_reply_and_headers(to, address, headers, body.into()).await.unwrap();
        service.flush().await.unwrap();
    };
    say(&addresses[0], "one", "item 1", "1").await;
    let items = soon(call).await.unwrap();
    say(&addresses[1], "one", "item 2", "2").await;
    // Another instance, also where the first one listens, and one of the version before.
    say(&addresses[2], "two", "item 3", "666").await;
    assert_eq!(addresses[2].heard().await, "cancel");
    let mut old = Fake::new(&service, reply.clone()).await;
    old.say("item 3", "666").await;
    assert_eq!(old.heard().await, "cancel");
    say(&addresses[3], "one", "ping 2", "").await;
    assert_eq!(addresses[3].heard().await, "credit 4", "it is told where it listened last");
    say(&addresses[1], "one", "item 3", "3").await;
    say(&addresses[0], "one", "end 4", "").await;
    let (items, error) = all(items).await;
    assert!(items == [1, 2, 3] && error.is_none(), "{items:?} {error:?}");
}

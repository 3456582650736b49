//! Streams in NestJS's dialect.

use super::by_hand::publish;
use super::*;

#[tokio::test]
async fn nestjs_clients_get_a_stream_as_an_observable() {
    let stage = stage_with(server_with(|builder| builder.config("max_payload: 4KB")), Limits::default()).await;
    let caller = foreign(&stage.server).await;
    let ask = async |subject: &str, data: &str, answers: usize| {
        let inbox = caller.new_inbox();
        let mut heard = caller.subscribe(inbox.clone()).await.unwrap();
        let body = format!(r#"{{"pattern":"{subject}","data":{data},"id":"88a5f0d6ac4d1830655c1"}}"#);
        publish(&caller, subject, Some(&inbox), "", body).await;
        let mut bodies = Vec::new();
        for _ in 0..answers {
            let message = soon(heard.next()).await.unwrap();
            let body = String::from_utf8(message.payload.to_vec()).unwrap();
            bodies.push(body.replace(r#""id":"88a5f0d6ac4d1830655c1""#, "ID"));
        }
        bodies
    };
    let three = ask("stream.count", "3", 3).await;
    assert_eq!(three, [r#"{"response":1,ID}"#, r#"{"response":2,ID}"#, r#"{"response":3,"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "1", 1).await, [r#"{"response":1,"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "0", 1).await, [r#"{"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "2000", 2_000).await[1_999], r#"{"response":2000,"isDisposed":true,ID}"#);
    let err = r#"{"status":404,"code":"NOT_FOUND","message":"there is no 3","details":{"number":3}}"#;
    let failed = ask("stream.fails", "0", 3).await;
    assert_eq!(failed[2], format!(r#"{{"err":{err},"isDisposed":true,ID}}"#));
    let large = ask("stream.sizes", "[1,4096]", 2).await;
    assert!(large[0] == r#"{"response":"x",ID}"# && large[1].contains("PAYLOAD_TOO_LARGE"), "{large:?}");
    let unary = request(&caller, "stream.unary", r#"{"pattern":"stream.unary","data":0,"id":7}"#).await;
    assert_eq!(&unary.payload[..], br#"{"response":7,"isDisposed":true,"id":7}"#);
    // An item is not held back until it is known whether it is the last.
    assert_eq!(ask("stream.gated", "0", 1).await, [r#"{"response":0,ID}"#]);
}

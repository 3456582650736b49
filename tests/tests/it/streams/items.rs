//! What comes of a stream: its items in order, its errors, its deadlines.

use super::*;

#[tokio::test]
async fn a_stream_brings_every_item_in_order_and_ends() {
    let stage = stage().await;
    for last in [0, 1, 2, 31, 32, 33, 64, 5_000] {
        let (items, error) = all(stage.client.stream::<u32>("stream.count", &last).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(items, Vec::from_iter(1..=last));
    }
    for window in [1, 2, 3, 1_024] {
        let items = stage.client.window(window).stream::<u32>("stream.count", &100).await.unwrap();
        assert_eq!(all(items).await.0.len(), 100, "with a window of {window}");
    }
}

#[tokio::test]
async fn an_error_is_the_last_item_and_a_refusal_comes_before_the_first() {
    let stage = stage().await;
    let (items, error) = all(stage.client.stream::<u32>("stream.fails", &()).await.unwrap()).await;
    assert_eq!(items, [1, 2]);
    let Some(CallError::Remote(error)) = error else { panic!("{error:?}") };
    assert_eq!(
        (error.code(), error.message(), error.name()),
        (Some(Code::NotFound), "there is no 3", Some("NOT_FOUND"))
    );
    assert_eq!(error.details().unwrap().get(), r#"{"number":3}"#);
    let refused = soon(stage.client.stream::<u32>("stream.refused", &())).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PermissionDenied));
    let bad = soon(stage.client.stream::<u32>("stream.count", &"many")).await.unwrap_err();
    assert_eq!(bad.code(), Some(Code::InvalidArgument));
    let nobody = soon(stage.client.stream::<u32>("stream.nobody", &())).await.unwrap_err();
    assert!(matches!(nobody, CallError::NoResponders { .. }), "{nobody}");
    let (items, error) = all(stage.client.stream::<String>("stream.count", &2).await.unwrap()).await;
    assert!(items.is_empty() && matches!(error, Some(CallError::Decode(_))), "{error:?}");
}

#[tokio::test]
async fn one_answer_is_a_stream_of_one_and_a_stream_is_not_one_answer() {
    let stage = stage().await;
    let (items, error) = all(stage.client.stream::<u32>("stream.unary", &()).await.unwrap()).await;
    assert!(items == [7] && error.is_none(), "{error:?}");
    let error = stage.client.send::<u32>("stream.count", &3).await.unwrap_err();
    let CallError::Remote(error) = error else { panic!("{error}") };
    assert!(error.status() == 400 && error.message().contains("`stream`"), "{error}");
    let caller = foreign(&stage.server).await;
    for junk in ["", "open", "open 0", "open -1", "open many", "item 1", "open 5 6"] {
        let answer = request_with(&caller, "stream.count", &[("Rpc-Stream", junk)], "3").await;
        assert_eq!(code(&answer), 400, "{junk:?}");
    }
    assert_eq!(&request_with(&caller, "stream.unary", &[("Rpc-Stream", "junk")], "").await.payload[..], b"7");
}

#[tokio::test]
async fn a_stream_has_deadlines_for_each_item_and_in_all() {
    let limits = Limits { stream_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let mut stage = stage_with(server(), limits).await;
    // In all, at the service.
    let feeding = tokio::spawn({
        let gate = stage.seen.gate.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                gate.add_permits(1);
            }
        }
    });
    for subject in ["stream.limited", "stream.thorough"] {
        let (items, error) = all(stage.client.stream::<u64>(subject, &()).await.unwrap()).await;
        assert!(items.len() > 1 && answered(error) == 504, "{subject}: {items:?}");
        soon(stage.ends.recv()).await.unwrap();
    }
    feeding.abort();
    // From item to item: the handler has none, or its caller takes none.
    for subject in ["stream.never", "stream.endless"] {
        let mut items = stage.client.stream::<u64>(subject, &()).await.unwrap();
        if subject == "stream.endless" {
            soon(items.next()).await.unwrap().unwrap();
        }
        soon(stage.ends.recv()).await.unwrap();
        assert_eq!(answered(all(items).await.1), 504, "{subject}");
    }
    // The same at the caller, of whom a service that says nothing cannot make more.
    let _silent = stage.client.connection().nats().subscribe("stream.silent").await.unwrap();
    let short = Duration::from_millis(60);
    for client in [stage.client.item_timeout(short), stage.client.stream_timeout(short)] {
        let unheard = client.stream::<u64>("stream.silent", &()).await.map(drop);
        assert!(matches!(unheard, Err(CallError::TimedOut { .. })), "{unheard:?}");
        // One that knows the deadline may be the first to tell, and ends with it.
        let (_, error) = all(client.stream::<u64>("stream.never", &()).await.unwrap()).await;
        assert!(matches!(error, Some(CallError::TimedOut { .. })) || answered(error) == 504);
        soon(stage.ends.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_panic_and_an_item_too_large_are_errors_of_the_stream() {
    let stage = stage_with(server_with(|builder| builder.config("max_payload: 4KB")), Limits::default()).await;
    let (items, error) = all(stage.client.stream::<u32>("stream.panics", &()).await.unwrap()).await;
    assert_eq!((items, answered(error)), (vec![1, 2], 500));
    let (items, error) = all(stage.client.stream::<u32>("stream.bomb", &()).await.unwrap()).await;
    assert_eq!((items, answered(error)), (vec![1, 2], 500));
    let sizes = [10, 3_990, 4_090, 10];
    let (items, error) = all(stage.client.stream::<String>("stream.sizes", &sizes).await.unwrap()).await;
    assert_eq!((items.iter().map(String::len).collect::<Vec<_>>(), answered(error)), (vec![10, 3_990], 413));
    assert_eq!(stage.client.send::<u32>("stream.unary", &()).await.unwrap(), 7, "the service goes on");
}

#[tokio::test]
async fn users_who_may_do_no_more_than_they_need_can_stream() {
    let service = || Service::new("stream", "1.0.0").handlers(handlers![count]).streams();
    let config = format!(
        r#"authorization {{ users: [
            {{ user: service, password: s, {} }}
            {{ user: caller, password: c, permissions: {{
                publish: "stream.count", subscribe: "_INBOX_caller.>", allow_responses: {{ max: -1, expires: "1m" }}
            }} }}
        ] }}"#,
        service().permissions().unwrap()
    );
    let server = server_with(|builder| builder.config(&config).jetstream(false));
    let user = |name: &str, password, inbox| nats(&server).user(name, password).inbox_prefix(inbox);
    let _service = service().start(user("service", "s", "_INBOX_stream")).await.unwrap();
    let client = Client::connect(&user("caller", "c", "_INBOX_caller")).await.unwrap().item_timeout(PATIENCE);
    let (items, error) = all(client.window(8).stream::<u32>("stream.count", &500).await.unwrap()).await;
    assert!(items.len() == 500 && error.is_none(), "{} items, {error:?}", items.len());
}

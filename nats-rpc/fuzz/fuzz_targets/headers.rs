#![no_main]
//! A header is refused or given back as it is, and a deadline of any text is survived.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nats_rpc::prelude::*;
use nats_rpc::testing::TestService;
use nats_rpc::{DEADLINE_HEADER, TIMEOUT_HEADER};
use tokio::runtime::{Builder, Runtime};

#[message_pattern("e")]
async fn ping() {}

static SERVICE: LazyLock<TestService> =
    LazyLock::new(|| TestService::new(Service::new("fuzz", "1.0.0").handlers(handlers![ping])).expect("it starts"));

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|header: (&str, &str)| {
    let (name, value) = header;
    let mut headers = Headers::new();
    if headers.insert(name, value).is_ok() {
        assert_eq!(headers.get(name), Some(value));
        assert!(!value.contains(['\r', '\n']));
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
    }
    for name in [TIMEOUT_HEADER, DEADLINE_HEADER, "traceparent", name] {
        let service = SERVICE.header(name, value);
        // An answer of any kind: a header that cannot be sent is one.
        let _ = RUNTIME.with(|runtime| runtime.block_on(service.request("e", "")));
    }
});

#![no_main]
//! The body of a request, in each dialect: it gets exactly one answer, which can be read.

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nats_rpc::WireFormat;
use nats_rpc::prelude::*;
use nats_rpc::testing::TestService;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};

#[message_pattern("e")]
async fn echo(Payload(data): Payload<Box<RawValue>>) -> Box<RawValue> {
    data
}

static SERVICES: LazyLock<Vec<TestService>> = LazyLock::new(|| {
    let service = |wire| TestService::new(Service::new("fuzz", "1.0.0").handlers(handlers![echo]).wire(wire));
    [WireFormat::Auto, WireFormat::Nest, WireFormat::Native].map(|wire| service(wire).expect("it starts")).into()
});

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

fuzz_target!(|body: &[u8]| {
    for service in SERVICES.iter() {
        let answer = RUNTIME.with(|runtime| runtime.block_on(service.request("e", body.to_vec())));
        let (headers, answer) = answer.expect("it is answered");
        // A string may end amid a surrogate pair, which a value cannot hold and raw JSON can.
        let _: &RawValue = serde_json::from_slice(&answer).expect("the answer is JSON");
        match headers.get("Nats-Service-Error-Code") {
            Some(code) => {
                assert_eq!(code, "400", "nothing but the body can be wrong");
                assert!(!headers.get("Nats-Service-Error").expect("both or none").is_empty());
            }
            None => assert!(headers.is_empty()),
        }
    }
});

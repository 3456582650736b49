//! Tests of handlers: the function itself, the service in process, the service on a real server.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;

use nats_rpc::prelude::*;
use nats_rpc::testing::TestService;

#[derive(Clone)]
struct Rate(u32);

#[message_pattern("price.gross")]
async fn gross(State(Rate(percent)): State<Rate>, Payload(net): Payload<u32>) -> Result<u32, RpcError> {
    let tax = net.checked_mul(percent).ok_or_else(|| RpcError::invalid_argument("the price is out of range"))?;
    Ok(net + tax / 100)
}

fn service() -> Service {
    Service::new("prices", "1.0.0").handlers(handlers![gross]).provide(Rate(19))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // 1. A handler is a plain function.
    assert_eq!(gross(State(Rate(10)), Payload(200)).await?, 220);

    // 2. With guards, arguments, wire formats and error replies, in this process.
    let service = TestService::new(service())?;
    assert_eq!(service.send::<u32>("price.gross", &100).await?, 119);
    let code = service.send::<u32>("price.gross", &u32::MAX).await.map_err(|error| error.code());
    assert_eq!(code.err(), Some(Some(Code::InvalidArgument)));

    // The same request, as a NestJS caller would send it.
    let envelope = r#"{"pattern":"price.gross","data":100,"id":"88a5f0d6ac4d1830655c1"}"#;
    let (_, answer) = service.request("price.gross", envelope).await?;
    assert_eq!(&answer[..], br#"{"response":119,"isDisposed":true,"id":"88a5f0d6ac4d1830655c1"}"#);

    // 3. `nats_rpc::testing::NatsServer` starts a real server, for tests in which queue groups, load shedding or the
    //    connection matter.
    println!("all three as expected");
    Ok(())
}

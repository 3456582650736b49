use std::borrow::Cow;

use nats_rpc::prelude::*;

#[message_pattern("echo")]
async fn echo(Payload(text): Payload<Cow<'_, str>>) -> String {
    text.into_owned()
}

fn main() {}

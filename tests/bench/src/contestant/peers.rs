//! Another NATS framework in Rust, used as in its own examples.

use std::error::Error;

use ruststream_nats::prelude::*;

use super::{Job, User, ready};

#[derive(OutSlot)]
#[publishes(User)]
struct Answers;

#[subscriber(CoreSubject::new("ruststream.echo").queue_group("q"))]
async fn echo(user: &User, ctx: &mut Context<'_>, Out(answers): Out<impl Publisher, Answers>) -> HandlerOutcome {
    let Some(inbox) = ctx.headers().reply_to().map(str::to_owned) else { return HandlerOutcome::drop() };
    match answers.message(user).to(inbox).publish().await {
        Ok(_) => HandlerOutcome::ack(),
        Err(_) => HandlerOutcome::retry(),
    }
}

pub(super) async fn run(_: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    let app = RustStream::new(AppInfo::new("bench", "1.0.0")).with_broker(NatsBroker::new(url), |broker| {
        broker.include(echo).out(Answers, Publish).build();
    });
    let _running = app.start().await?;
    ready().await
}

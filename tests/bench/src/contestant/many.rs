//! One handler under many patterns.

use std::error::Error;

use nats_rpc::{NatsConfig, Route};

use super::job::{Job, route_name};
use super::{ours, ready};

pub(super) async fn run(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    let one = ours::echo()[0];
    let routes = (0..job.routes).map(|index| &*Box::leak(Box::new(renamed(one, route_name(index)))));
    let _running = ours::service(job, routes.collect()).start(NatsConfig::new(url)).await?;
    ready().await
}

/// Returns the same route under another pattern; leaked, because routes live as long as the program.
fn renamed(route: &Route, pattern: String) -> Route {
    let Route { kind, package, module, file, line, guards, public, queue, bind, contract, .. } = *route;
    let pattern: &'static str = pattern.leak();
    Route {
        pattern,
        handler: pattern,
        kind,
        package,
        module,
        file,
        line,
        guards,
        public,
        queue,
        timeout_ms: None,
        concurrency: None,
        run_to_completion: false,
        bind,
        contract,
    }
}

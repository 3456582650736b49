//! NestJS, in a process of Node's.

use std::error::Error;
use std::process::Command;

use nats_rpc_tests::node;

/// The command that starts the service, with its packages in place.
///
/// The guard's key is parsed once: the way that the documentation shows, a string, costs sixteen times as much.
pub(crate) fn command() -> Result<Command, Box<dyn Error>> {
    let mut command = node::program("bench-service").map_err(|error| error as Box<dyn Error>)?;
    command.env("KEYOBJECT", "1").env("QUEUE", "q");
    Ok(command)
}

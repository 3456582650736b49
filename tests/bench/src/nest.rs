//! NestJS, in a Node.js process.

use std::error::Error;
use std::process::Command;

use nats_rpc_tests::node;

/// Returns the command that starts the service, with its packages installed.
///
/// The guard's key is parsed once. A string, as in the documentation, is parsed each time and costs sixteen times as
/// much.
pub(crate) fn command() -> Result<Command, Box<dyn Error>> {
    let mut command = node::program("bench-service").map_err(|error| error as Box<dyn Error>)?;
    command.env("KEYOBJECT", "1").env("QUEUE", "q");
    Ok(command)
}

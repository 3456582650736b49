//! Starts a nats-server, prints its URL, and keeps it running until this program ends.

use std::{
    io::{self, Write},
    thread,
};

fn main() -> io::Result<()> {
    let server = nats_rpc_tests::server();
    writeln!(io::stdout(), "{}", server.url())?;
    loop {
        thread::park();
    }
}

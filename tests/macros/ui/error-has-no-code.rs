use nats_rpc::prelude::*;

#[message_pattern("config.read")]
async fn read() -> Result<String, std::io::Error> {
    std::fs::read_to_string("config.toml")
}

fn main() {}

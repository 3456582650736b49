//! How the process of a service ends, whatever its handlers are at.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nats_rpc::CallError;
use nats_rpc::testing::NatsServer;
use nats_rpc_tests::server;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{client, foreign, soon};

/// A service in a process of its own, killed when the test ends.
struct Stubborn(Child);

impl Drop for Stubborn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stubborn {
    /// Starts it and waits until it answers and one handler is at work that cannot be cancelled.
    async fn at_work(server: &NatsServer, drain_ms: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_stubborn"))
            .env("NATS_URL", server.url())
            .env("STUBBORN_DRAIN_MS", drain_ms)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stubborn = Self(child);
        let client = client(server).await.no_responders_timeout(crate::support::PATIENCE);
        assert_eq!(client.send::<String>("stubborn.ping", &()).await.unwrap(), "pong");
        let late = client.timeout(Duration::from_millis(100)).send::<()>("stubborn.work", &()).await;
        assert!(matches!(late, Err(CallError::TimedOut { .. } | CallError::Remote(_))), "{late:?}");
        client.emit("stubborn.work", &()).await.unwrap();
        assert_eq!(client.send::<String>("stubborn.ping", &()).await.unwrap(), "pong");
        stubborn
    }

    fn signal(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        soon(async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

#[tokio::test]
async fn what_routes_prints_is_what_srv_tells() {
    let server = server();
    let _stubborn = Stubborn::at_work(&server, "60000").await;
    let printed = Command::new(env!("CARGO_BIN_EXE_stubborn")).arg("routes").output().unwrap();
    let table = String::from_utf8(printed.stdout).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    // Of each row the subject, the handler, the queue group and the hashes.
    let mut printed: Vec<_> = rows.map(|row| [0, 2, 4, 5, 6].map(|column| row[column].clone())).collect();

    let answer = soon(foreign(&server).await.request("$SRV.INFO.stubborn", "".into())).await.unwrap();
    let info: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let endpoints = info["endpoints"].as_array().unwrap().iter();
    let mut told: Vec<_> = endpoints
        .map(|told| {
            let metadata = &told["metadata"];
            let [payload, answer] = ["payload_schema", "answer_schema"].map(|hash| text(&metadata[hash]));
            [text(&told["subject"]), text(&metadata["handler"]), text(&told["queue_group"]), payload, answer]
        })
        .collect();
    printed.sort();
    told.sort();
    assert_eq!(printed, told);
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|row| row[4] != "-"), "there are answers with a schema: {told:?}");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let server = server();
    let mut service = Stubborn::at_work(&server, "3600000").await;
    service.signal();
    // Nobody is asked any more: it is stopping, so the next signal is the second.
    let caller = foreign(&server).await;
    soon(async { while caller.request("stubborn.ping", "".into()).await.is_ok() {} }).await;
    assert!(service.0.try_wait().unwrap().is_none(), "it does not wait for its handlers");
    service.signal();
    assert_eq!(service.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_stop_ends_the_process_though_blocking_work_goes_on() {
    let server = server();
    let mut service = Stubborn::at_work(&server, "50").await;
    service.signal();
    assert_eq!(service.ended().await.code(), Some(0));
}

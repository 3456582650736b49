//! Connections: none is held by a caller who sends half of something, nothing, or reads nothing.

use tokio::net::{TcpSocket, TcpStream};

use super::*;

const SILENCE: Duration = Duration::from_millis(300);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

async fn patient_for(server: &NatsServer, silence: Duration) -> Front {
    Front::start_with(server, |config| config.timeout(Duration::from_secs(30)).silence(silence)).await
}

/// Sends a whole request and reads its answer, which is good.
async fn served(socket: &mut TcpStream) {
    socket.write_all(REQUEST).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(br#"{"status":"ok"}"#) {
        assert!(soon(socket.read_buf(&mut read)).await.unwrap() > 0, "it ended: {read:?}");
    }
    assert!(read.starts_with(b"HTTP/1.1 200"), "{read:?}");
}

/// Waits until the other side has ended the connection.
async fn ended(mut socket: TcpStream) {
    let mut rest = Vec::new();
    // Ended in order or reset: both are ends.
    let _ = soon(socket.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn half_of_the_headers_hold_a_connection_no_longer_than_the_limit_and_others_are_served_meanwhile() {
    let server = server();
    let front = patient_for(&server, SILENCE).await;
    let began = std::time::Instant::now();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(front.address).await.unwrap();
        socket.write_all(&REQUEST[..REQUEST.len() - 2]).await.unwrap();
        slow.push(socket);
    }
    assert_eq!(answer(front.get("/healthz")).await.0, 200);
    for socket in slow {
        ended(socket).await;
    }
    assert!(began.elapsed() >= SILENCE, "whoever is slow has this long");
}

#[tokio::test]
async fn a_line_at_a_time_is_no_way_round_the_limit() {
    let server = server();
    let front = patient_for(&server, SILENCE).await;
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let dripping = async {
        while socket.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(SILENCE / 10).await;
        }
    };
    soon(dripping).await;
}

#[tokio::test]
async fn what_is_long_enough_for_headers_does_not_end_an_idle_connection_nor_wait_for_a_body() {
    let server = server();
    let front = patient_for(&server, SILENCE).await;
    let mut idle = TcpStream::connect(front.address).await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(SILENCE * 3).await;
        served(&mut idle).await;
    }
    let mut slow = TcpStream::connect(front.address).await.unwrap();
    let headers =
        b"POST /api/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n";
    slow.write_all(headers).await.unwrap();
    tokio::time::sleep(SILENCE * 3).await;
    slow.write_all(b"{}").await.unwrap();
    let mut start = [0; 12];
    soon(slow.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 400", "the two members are not there");
}

#[tokio::test]
async fn half_of_the_headers_end_a_connection_that_was_used_as_they_end_a_new_one() {
    let server = server();
    let front = patient_for(&server, SILENCE).await;
    let mut used = TcpStream::connect(front.address).await.unwrap();
    for _ in 0..2 {
        served(&mut used).await;
    }
    let began = std::time::Instant::now();
    used.write_all(b"G").await.unwrap();
    ended(used).await;
    assert!(began.elapsed() >= SILENCE, "whoever is slow has this long");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_is_used_is_not() {
    let server = server();
    let idle_for = async |longest| {
        Front::start_with(&server, |config| config.idle(longest).silence(Duration::from_secs(60))).await
    };
    let front = idle_for(SILENCE).await;
    let silent = TcpStream::connect(front.address).await.unwrap();
    let mut idle = TcpStream::connect(front.address).await.unwrap();
    served(&mut idle).await;
    ended(silent).await;
    ended(idle).await;

    // Each request begins the time anew.
    let front = idle_for(Duration::from_secs(2)).await;
    let mut used = TcpStream::connect(front.address).await.unwrap();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        served(&mut used).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn whoever_reads_no_answers_is_cut_off() {
    let server = server();
    let front = patient_for(&server, SILENCE).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut socket = socket.connect(front.address).await.unwrap();
    // Until it takes no more, and then until it is gone.
    let many = REQUEST.repeat(100);
    soon(async { while socket.write_all(&many).await.is_ok() {} }).await;
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_until_one_ends() {
    let server = server();
    let front = Front::start_with(&server, |config| config.silence(Duration::from_secs(60)).connections(2)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(front.address).await.unwrap();
        served(&mut socket).await;
        open.push(socket);
    }
    let mut third = TcpStream::connect(front.address).await.unwrap();
    third.write_all(REQUEST).await.unwrap();
    for socket in &mut open {
        served(socket).await;
    }
    let mut first_byte = [0; 1];
    assert!(futures::poll!(std::pin::pin!(third.read_exact(&mut first_byte))).is_pending());
    open.pop();
    soon(third.read_exact(&mut first_byte)).await.unwrap();
    assert_eq!(&first_byte, b"H");
}

#[tokio::test]
async fn headers_that_are_too_long_are_431_and_not_kept() {
    let server = server();
    let front = patient_for(&server, Duration::from_secs(60)).await;
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
    let _ = socket.write_all(&[b'a'; 64 * 1024]).await;
    let mut start = [0; 12];
    soon(socket.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_idle_connections() {
    let server = server();
    let front = patient_for(&server, Duration::from_secs(60)).await;
    let mut idle = TcpStream::connect(front.address).await.unwrap();
    served(&mut idle).await;
    front.stop.send(()).unwrap();
    // What is left after ten seconds is cut off in any case.
    let in_order = async {
        ended(idle).await;
        front.serving.await.unwrap().unwrap();
    };
    tokio::time::timeout(Duration::from_secs(8), in_order).await.expect("it is not waited for");
}

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{interleave, race};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_families_take_turns_and_the_preferred_one_begins() {
    let given = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"].map(address).to_vec();
    let wanted = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"].map(address).to_vec();
    assert_eq!(interleave(given), wanted);
    assert_eq!(interleave(vec![]), vec![]);
}

/// Each address answers after so many milliseconds, well or not; gives who won, when, and when each was tried.
async fn run(script: &[(&str, u64, bool)]) -> (Result<SocketAddr, String>, u128, Vec<u128>) {
    let addresses: Vec<_> = script.iter().map(|(text, ..)| address(text)).collect();
    let started = Instant::now();
    let tried = Mutex::new(Vec::new());
    let won = race(&addresses, |to| {
        tried.lock().unwrap().push(started.elapsed().as_millis());
        let (_, millis, is_up) = script[addresses.iter().position(|it| *it == to).unwrap()];
        async move {
            sleep(Duration::from_millis(millis)).await;
            if is_up { Ok(to) } else { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) }
        }
    })
    .await;
    (won.map_err(|error| error.to_string()), started.elapsed().as_millis(), tried.into_inner().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_fast_first_address_is_the_only_one_tried() {
    let (won, at, tried) = run(&[("[::1]:1", 200, true), ("10.0.0.1:1", 1, true)]).await;
    assert_eq!((won, at), (Ok(address("[::1]:1")), 200));
    assert_eq!(tried, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_first_address_is_overtaken_by_the_second() {
    let (won, at, tried) = run(&[("[::1]:1", 100_000, true), ("10.0.0.1:1", 20, true)]).await;
    assert_eq!((won, at), (Ok(address("10.0.0.1:1")), 270));
    assert_eq!(tried, [0, 250]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_moves_on_at_once() {
    let (won, at, tried) = run(&[("[::1]:1", 5, false), ("10.0.0.1:1", 20, true)]).await;
    assert_eq!((won, at), (Ok(address("10.0.0.1:1")), 25));
    assert_eq!(tried, [0, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_of_an_early_attempt_still_counts() {
    let (won, at, _) = run(&[("[::1]:1", 300, true), ("10.0.0.1:1", 20_000, true)]).await;
    assert_eq!((won, at), (Ok(address("[::1]:1")), 300));
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_each_one_is_named() {
    let (won, at, _) = run(&[("[::1]:1", 5, false), ("10.0.0.1:1", 5, false)]).await;
    assert_eq!(won, Err("[::1]:1: connection refused; 10.0.0.1:1: connection refused".to_owned()));
    assert_eq!(at, 10);
    let (won, ..) = run(&[]).await;
    assert_eq!(won, Err("the name has no address".to_owned()));
}

#[tokio::test]
async fn a_connection_that_reached_itself_counts_as_refused() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(address("127.0.0.1:0")).unwrap();
    let own = socket.local_addr().unwrap();
    let stream = socket.connect(own).await.unwrap();
    assert_eq!(super::to_another(stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    super::connect(listener.local_addr().unwrap()).await.unwrap();
}

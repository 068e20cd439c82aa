use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use mpe_mcp_protocol::jsonrpc::ErrorObject;
use mpe_mcp_protocol::version::ProtocolVersion;
use mpe_transport::Sent;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::{BalanceMeters, Balanced, Member};
use crate::upstream::testing::{raw, request};
use crate::upstream::{Change, Introduction, Upstream, UpstreamError, UpstreamReply, UpstreamRequest};
use crate::{CallContext, CallErrorKind, EjectionConfig};

/// What one address does.
#[derive(Clone, Copy)]
enum Act {
    Answer,
    Fail(CallErrorKind),
    Hang,
    Reject(i64),
    Slow(Duration),
    Unreachable,
}

struct Address {
    act: Mutex<Act>,
    /// What it does first.
    script: Mutex<VecDeque<Act>>,
    is_up: AtomicBool,
    requests: AtomicUsize,
    introductions: AtomicUsize,
    is_closed: AtomicBool,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
}

impl Address {
    fn new(act: Act) -> Arc<Self> {
        Arc::new(Self {
            act: Mutex::new(act),
            script: Mutex::default(),
            is_up: AtomicBool::new(true),
            requests: AtomicUsize::new(0),
            introductions: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            changes: Mutex::default(),
        })
    }

    fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    fn n(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Upstream for Address {
    fn introduce(&self, _: Instant) -> BoxFuture<'_, Result<Introduction, UpstreamError>> {
        self.introductions.fetch_add(1, Ordering::SeqCst);
        let is_up = self.is_up.load(Ordering::SeqCst);
        Box::pin(async move {
            if !is_up {
                return Err(UpstreamError::new(CallErrorKind::UpstreamUnreachable, Sent::No, "down"));
            }
            Ok(Introduction {
                version: ProtocolVersion::LATEST,
                capabilities: Arc::from(raw(&json!({}))),
                server_info: None,
                instructions: None,
            })
        })
    }

    fn request(&self, _: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamReply, UpstreamError>> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let act = self.script.lock().unwrap().pop_front().unwrap_or(*self.act.lock().unwrap());
        Box::pin(async move {
            let reply = |outcome| Ok(UpstreamReply { outcome, protocol: None, address: None });
            match act {
                Act::Answer => reply(Ok(raw(&json!({})))),
                Act::Fail(kind) => Err(UpstreamError::new(kind, Sent::Maybe, "scripted")),
                Act::Hang => std::future::pending().await,
                Act::Reject(code) => reply(Err(ErrorObject { code, message: String::new(), data: None })),
                Act::Unreachable => {
                    Err(UpstreamError::new(CallErrorKind::UpstreamUnreachable, Sent::No, "refused"))
                }
                Act::Slow(wait) => {
                    sleep(wait).await;
                    reply(Ok(raw(&json!({}))))
                }
            }
        })
    }

    fn changes(&self) -> Option<mpsc::Receiver<Change>> {
        let (sender, receiver) = mpsc::channel(4);
        *self.changes.lock().unwrap() = Some(sender);
        Some(receiver)
    }

    fn watch_resources(&self, uris: Vec<String>, _: Instant) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { uris })
    }

    fn close(&self, _: Instant) -> BoxFuture<'_, ()> {
        self.is_closed.store(true, Ordering::SeqCst);
        Box::pin(async {})
    }
}

fn balanced(addresses: &[Arc<Address>]) -> Balanced {
    let member = |(n, address): (usize, &Arc<Address>)| Member {
        tag: Arc::from(format!("tag {n}")),
        name: format!("address {n}"),
        link: Arc::clone(address) as Arc<dyn Upstream>,
        recorder: Arc::default(),
    };
    let meters = BalanceMeters { ejected: metrics::Counter::noop(), out: metrics::Gauge::noop() };
    Balanced::new(addresses.iter().enumerate().map(member).collect(), EjectionConfig::default(), meters)
}

async fn ask(balanced: &Balanced) -> Result<UpstreamReply, UpstreamError> {
    balanced.request(request("tools/call", None)).await
}

#[tokio::test(start_paused = true)]
async fn the_less_loaded_of_two_addresses_is_taken() {
    let addresses = [Address::new(Act::Slow(Duration::from_secs(3))), Address::new(Act::Answer)];
    let balanced = balanced(&addresses);
    let mut slow: Vec<_> = Vec::new();
    // Until one call is stuck at the slow address.
    while addresses[0].n() == 0 {
        let mut call = Box::pin(ask(&balanced));
        if call.as_mut().now_or_never().is_none() {
            slow.push(call);
        }
    }
    let before = addresses[1].n();
    for _ in 0..50 {
        ask(&balanced).await.unwrap();
    }
    assert_eq!(addresses[1].n() - before, 50, "nobody joins the one that waits");
    join_all(slow).await;
}

#[tokio::test(start_paused = true)]
async fn equal_addresses_share_the_load_evenly() {
    let addresses: Vec<_> = (0..4).map(|_| Address::new(Act::Slow(Duration::from_millis(100)))).collect();
    let balanced = balanced(&addresses);
    join_all((0..400).map(|_| ask(&balanced))).await;
    for address in &addresses {
        assert!((90..=110).contains(&address.n()), "{} of 400", address.n());
    }
}

async fn ask_at(balanced: &Balanced, tag: &str) -> Result<UpstreamReply, UpstreamError> {
    let mut request = request("tools/call", None);
    request.context =
        Arc::new(CallContext { address: Some(Arc::from(tag)), ..CallContext::clone(&request.context) });
    balanced.request(request).await
}

#[tokio::test(start_paused = true)]
async fn the_next_round_goes_where_the_last_one_was_answered_whatever_the_load() {
    let addresses = [Address::new(Act::Slow(Duration::from_secs(1))), Address::new(Act::Answer)];
    let balanced = balanced(&addresses);
    let rounds = join_all((0..50).map(|_| ask_at(&balanced, "tag 0"))).await;
    assert_eq!((addresses[0].n(), addresses[1].n()), (50, 0));
    for reply in rounds {
        assert_eq!(reply.unwrap().address.as_deref(), Some("tag 0"), "and says so");
    }
    ask_at(&balanced, "an address that a reload has taken away").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_next_round_goes_elsewhere_when_its_address_is_out_or_cannot_be_reached() {
    let addresses = [Address::new(Act::Unreachable), Address::new(Act::Answer)];
    addresses[0].is_up.store(false, Ordering::SeqCst);
    let balanced = balanced(&addresses);
    for _ in 0..20 {
        assert_eq!(ask_at(&balanced, "tag 0").await.unwrap().address.as_deref(), Some("tag 1"));
    }
    assert_eq!(addresses[0].n(), 5, "not asked any more once it is out");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_keeps_failing_is_left_out_and_comes_back_when_it_answers_an_introduction() {
    let failures = [
        Act::Fail(CallErrorKind::UpstreamUnreachable),
        Act::Fail(CallErrorKind::UpstreamLost),
        Act::Fail(CallErrorKind::UpstreamStatus),
        Act::Fail(CallErrorKind::UpstreamProtocol),
        Act::Reject(-32603),
        Act::Reject(-32050),
    ];
    for failure in failures {
        let addresses = [Address::new(failure), Address::new(Act::Answer)];
        addresses[0].is_up.store(false, Ordering::SeqCst);
        let balanced = balanced(&addresses);
        for _ in 0..100 {
            let _ = ask(&balanced).await;
        }
        assert_eq!(addresses[0].n(), 5, "five in a row are enough");
        assert_eq!(addresses[1].n(), 95);

        // Asked after 1 s, 2 s and 4 s, by introductions alone.
        sleep(Duration::from_millis(6500)).await;
        assert_eq!(addresses[0].introductions.load(Ordering::SeqCst), 2);
        addresses[0].is_up.store(true, Ordering::SeqCst);
        addresses[0].set(Act::Answer);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(addresses[0].introductions.load(Ordering::SeqCst), 3);
        for _ in 0..40 {
            ask(&balanced).await.unwrap();
        }
        assert!(addresses[0].n() > 10, "it takes part again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_lets_callers_wait_is_left_out_too() {
    let addresses = [Address::new(Act::Hang), Address::new(Act::Slow(Duration::from_secs(1)))];
    let balanced = balanced(&addresses);
    join_all((0..12).map(|_| ask(&balanced))).await;
    let before = addresses[0].n();
    assert!(before >= 5, "{before}");
    join_all((0..12).map(|_| ask(&balanced))).await.into_iter().for_each(|reply| {
        reply.unwrap();
    });
    assert_eq!(addresses[0].n(), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_does_wrong_costs_no_address_its_place() {
    for code in [-32700, -32600, -32601, -32602, -32002, -32020, -32021, -32042, 7] {
        let addresses = [Address::new(Act::Reject(code)), Address::new(Act::Reject(code))];
        let balanced = balanced(&addresses);
        for _ in 0..100 {
            ask(&balanced).await.unwrap();
        }
        let share = addresses[0].n();
        assert!((20..=80).contains(&share), "{code}: {share} of 100");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_between_failures_starts_the_count_over() {
    let addresses = [Address::new(Act::Answer), Address::new(Act::Answer)];
    let lost = Act::Fail(CallErrorKind::UpstreamLost);
    addresses[0].script.lock().unwrap().extend([lost, lost, lost, lost, Act::Answer, lost, lost, lost, lost]);
    let balanced = balanced(&addresses);
    for _ in 0..200 {
        let _ = ask(&balanced).await;
    }
    assert!(addresses[0].n() > 50);
    assert_eq!(addresses[0].introductions.load(Ordering::SeqCst), 0, "it was never out");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_cannot_be_reached_costs_no_call() {
    let unreachable = UpstreamError::new(CallErrorKind::UpstreamUnreachable, Sent::No, "refused");
    assert!(super::is_unreached(&unreachable));
    let addresses =
        [Address::new(Act::Unreachable), Address::new(Act::Unreachable), Address::new(Act::Answer)];
    let balanced = balanced(&addresses);
    for _ in 0..50 {
        ask(&balanced).await.unwrap();
    }
    assert_eq!((addresses[0].n(), addresses[1].n(), addresses[2].n()), (5, 5, 50));
    addresses[2].set(Act::Unreachable);
    let error = ask(&balanced).await.unwrap_err();
    assert_eq!((error.kind, error.sent), (CallErrorKind::UpstreamUnreachable, Sent::No));
    assert_eq!(addresses.iter().map(|address| address.n()).sum::<usize>(), 63, "each was tried once");
}

#[tokio::test(start_paused = true)]
async fn the_last_address_is_never_left_out() {
    let addresses = [
        Address::new(Act::Fail(CallErrorKind::UpstreamLost)),
        Address::new(Act::Fail(CallErrorKind::UpstreamLost)),
    ];
    for address in &addresses {
        address.is_up.store(false, Ordering::SeqCst);
    }
    let balanced = balanced(&addresses);
    for _ in 0..100 {
        assert_eq!(ask(&balanced).await.unwrap_err().kind, CallErrorKind::UpstreamLost);
    }
    let fewer = addresses[0].n().min(addresses[1].n());
    assert!(fewer < 20, "one of them is out: {fewer}");
}

#[tokio::test(start_paused = true)]
async fn introductions_and_announcements_come_from_any_address() {
    let addresses = [Address::new(Act::Answer), Address::new(Act::Answer)];
    addresses[0].is_up.store(false, Ordering::SeqCst);
    let balanced = balanced(&addresses);
    balanced.introduce(Instant::now() + Duration::from_secs(5)).await.expect("the second one answers");
    let mut changes = balanced.changes().unwrap();
    for address in &addresses {
        let sender = address.changes.lock().unwrap().clone().unwrap();
        sender.send(Change::Tools).await.unwrap();
        assert_eq!(changes.recv().await, Some(Change::Tools));
    }
    let watched =
        balanced.watch_resources(vec!["file:///a".to_owned()], Instant::now() + Duration::from_secs(5));
    assert_eq!(watched.await, ["file:///a"]);
    balanced.close(Instant::now() + Duration::from_secs(5)).await;
    assert!(addresses.iter().all(|address| address.is_closed.load(Ordering::SeqCst)));
    assert_eq!(changes.recv().await, None, "no task is left");
}

//! The other side, by script: a network of in-memory pipes and a peer that speaks raw HTTP/2 frames.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use mpe_transport::{
    Body, ByteStream, Dial, Dialing, Error, Origin, OriginSnapshot, Pool, PoolConfig, TlsConfig, Wire,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The near end of every dial goes to the pool, the far end comes out here.
pub(crate) struct Network {
    dialled: mpsc::UnboundedReceiver<DuplexStream>,
    dialer: Arc<PipeDialer>,
}

struct PipeDialer {
    far_ends: mpsc::UnboundedSender<DuplexStream>,
    refusals: Mutex<usize>,
    /// A dial takes this long.
    delay: Mutex<Duration>,
}

impl Dial for PipeDialer {
    fn dial<'a>(&'a self, _host: &'a str, _port: u16) -> Dialing<'a> {
        Box::pin(async move {
            let delay = *self.delay.lock().unwrap();
            tokio::time::sleep(delay).await;
            let mut refusals = self.refusals.lock().unwrap();
            if *refusals > 0 {
                *refusals -= 1;
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused by the script"));
            }
            let (near, far) = duplex(256 * 1024);
            self.far_ends.send(far).expect("the test holds the network");
            Ok(Box::new(near) as Box<dyn ByteStream>)
        })
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        let (far_ends, dialled) = mpsc::unbounded_channel();
        let dialer = PipeDialer { far_ends, refusals: Mutex::new(0), delay: Mutex::new(Duration::ZERO) };
        Self { dialled, dialer: Arc::new(dialer) }
    }

    pub(crate) fn pool(&self, config: PoolConfig) -> Pool {
        self.pool_with_tls(config, TlsConfig::default())
    }

    pub(crate) fn pool_with_tls(&self, config: PoolConfig, tls: TlsConfig) -> Pool {
        Pool::with_dialer(config, tls, self.dialer.clone()).expect("a pool")
    }

    /// The next dials fail.
    pub(crate) fn refuse(&self, n_dials: usize) {
        *self.dialer.refusals.lock().unwrap() = n_dials;
    }

    /// Dials take this long from here on.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.dialer.delay.lock().unwrap() = delay;
    }

    /// The far end of the next dial.
    pub(crate) async fn accept(&mut self) -> DuplexStream {
        soon(self.dialled.recv()).await.expect("the dialer lives as long as the network")
    }

    /// The next dial, spoken to in HTTP/2 with these settings.
    pub(crate) async fn accept_h2(&mut self, settings: &[(u16, u32)]) -> Peer {
        let io = self.accept().await;
        Peer::over(io, settings).await
    }

    /// How many dials nobody has accepted yet.
    pub(crate) fn n_unanswered(&self) -> usize {
        self.dialled.len()
    }
}

/// Fails the test instead of letting it hang. Under a paused clock this is exact, not a sleep.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("this should have happened by now")
}

/// Lets every other task run as far as it can without time passing.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(crate) const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const HTTP_1_1_REQUIRED: u32 = 13;

/// `:status: 200`, the static table's entry 8.
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// A server that says exactly what the test tells it to.
pub(crate) struct Peer {
    pub(crate) io: Box<dyn ByteStream>,
    /// Bytes we may still send on the connection.
    pub(crate) window: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM.
    pub(crate) fn reason(&self) -> u32 {
        assert_eq!(self.kind, RST_STREAM, "{self:?}");
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }

    pub(crate) fn is_end(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

impl Peer {
    /// HTTP/2 on a stream that somebody else has opened.
    pub(crate) async fn over(io: impl ByteStream, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self { io: Box::new(io), window: 65_535 };
        peer.shake_hands(settings).await;
        peer
    }

    pub(crate) async fn shake_hands(&mut self, settings: &[(u16, u32)]) {
        let mut preface = [0; 24];
        soon(self.io.read_exact(&mut preface)).await.expect("the preface");
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let first = self.frame().await.expect("SETTINGS");
        assert_eq!((first.kind, first.flags), (SETTINGS, 0));
        self.settings(settings).await;
        self.write(SETTINGS, ACK, 0, &[]).await;
    }

    pub(crate) async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = Vec::with_capacity(9 + payload.len());
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        soon(self.io.write_all(&frame)).await.expect("the pool reads");
    }

    /// The next frame; `None` once the pool has closed the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.io.read_exact(&mut head)).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon(self.io.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if (head[3], stream) == (WINDOW_UPDATE, 0) {
            self.window += i64::from(u32::from_be_bytes(payload[..4].try_into().unwrap()));
        }
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of one of these kinds; what lies between is connection business.
    pub(crate) async fn next(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.frame().await.expect("a frame, not the end");
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }

    /// Reads until some request is here whole; gives its stream.
    pub(crate) async fn request(&mut self) -> u32 {
        loop {
            let frame = self.next(&[HEADERS, DATA]).await;
            if frame.is_end() {
                return frame.stream;
            }
        }
    }

    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.write(SETTINGS, 0, 0, &payload).await;
    }

    pub(crate) async fn head(&mut self, stream: u32, flags: u8) {
        self.write(HEADERS, END_HEADERS | flags, stream, STATUS_200).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &[u8], flags: u8) {
        self.window -= data.len() as i64;
        self.write(DATA, flags, stream, data).await;
    }

    pub(crate) async fn answer(&mut self, stream: u32, body: &[u8]) {
        self.head(stream, 0).await;
        self.data(stream, body, END_STREAM).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, reason: u32) {
        self.write(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    pub(crate) async fn goaway(&mut self, last: u32, reason: u32) {
        let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Reads until the pool has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.frame().await.is_some() {}
    }
}

pub(crate) fn h2c() -> Origin {
    Origin::of(&http::Uri::from_static("http://peer.test:8080/"), Wire::H2c).expect("an origin")
}

pub(crate) fn other_h2c() -> Origin {
    Origin::of(&http::Uri::from_static("http://other.test:8080/"), Wire::H2c).expect("an origin")
}

pub(crate) fn http1() -> Origin {
    Origin::of(&http::Uri::from_static("http://peer.test:8080/"), Wire::Http1).expect("an origin")
}

pub(crate) fn post(body: &'static str) -> Request<Bytes> {
    Request::post("/call")
        .header("x-call", body)
        .body(Bytes::from_static(body.as_bytes()))
        .expect("a request")
}

pub(crate) fn https() -> Origin {
    Origin::of(&http::Uri::from_static("https://peer.test/"), Wire::Auto).expect("an origin")
}

/// One exchange in its own task.
pub(crate) fn spawn_send(
    pool: &Pool,
    origin: &Origin,
    request: Request<Bytes>,
) -> tokio::task::JoinHandle<Result<Response<Body>, Error>> {
    let (pool, origin) = (pool.clone(), origin.clone());
    tokio::spawn(async move { pool.send(&origin, request, None).await })
}

pub(crate) async fn text(response: Response<Body>) -> Result<String, Error> {
    let collected = soon(response.into_body().collect()).await?;
    Ok(String::from_utf8(collected.to_bytes().to_vec()).expect("text"))
}

pub(crate) fn of(pool: &Pool, origin: &Origin) -> OriginSnapshot {
    pool.snapshot().origins.into_iter().find(|(it, _)| it == origin).map(|(_, it)| it).unwrap_or_default()
}

/// One HTTP/1.1 request, head and body.
pub(crate) async fn read_http1_request(peer: &mut (impl ByteStream + ?Sized)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(soon(peer.read_u8()).await.expect("a request head"));
    }
    let head = String::from_utf8(request).expect("text");
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    soon(peer.read_exact(&mut body)).await.expect("a request body");
    head + &String::from_utf8(body).expect("text")
}

/// After every script: no slot is held, nobody waits, nothing is being opened, and no task runs but one per connection
/// and the timekeeper.
pub(crate) async fn nothing_leaked(pool: &Pool) {
    settle().await;
    let snapshot = pool.snapshot();
    assert_eq!(snapshot.waiting, 0, "{snapshot:?}");
    for (origin, it) in &snapshot.origins {
        assert_eq!((it.streams, it.waiting, it.connecting), (0, 0, 0), "{origin}: {it:?}");
        assert_eq!(it.idle, it.connections, "{origin}: {it:?}");
    }
    let n_tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(n_tasks <= snapshot.connections + 1, "{n_tasks} tasks for {} connections", snapshot.connections);
}

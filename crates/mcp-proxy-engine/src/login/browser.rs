//! A person with a browser on this machine: the browser comes back to a listener on the loopback address (RFC 8252).

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use mpe_engine::upstream::Person;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Shows an authorization URL, and hears on a loopback port where the browser is sent afterwards.
pub struct Browser {
    show: Box<dyn Fn(&str) + Send + Sync>,
    port: Option<u16>,
    listener: Mutex<Option<TcpListener>>,
}

/// The path of every redirect.
const PATH: &str = "/callback";
/// Connections at once, at most: a browser opens a few.
const MAX_CONNECTIONS: usize = 16;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);

impl Browser {
    /// A browser whose person is told the URL by `show`. `port`: the redirect's; default: a free one, or the one that was
    /// registered before.
    pub fn new(port: Option<u16>, show: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { show: Box::new(show), port, listener: Mutex::default() }
    }

    async fn listen(&self, registered: Option<&str>) -> Result<TcpListener, String> {
        let bind = |port: u16| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        if let Some(port) = self.port {
            let bound = bind(port).await;
            return bound
                .map_err(|error| format!("cannot listen on 127.0.0.1:{port} for the login: {error}"));
        }
        // The port that the authorization server knows already saves a registration.
        if let Some(port) = registered.and_then(port_of)
            && let Ok(listener) = bind(port).await
        {
            return Ok(listener);
        }
        bind(0).await.map_err(|error| format!("cannot listen on 127.0.0.1 for the login: {error}"))
    }
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Person for Browser {
    fn redirect_uri<'a>(&'a self, registered: Option<&'a str>) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let listener = self.listen(registered).await?;
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            *self.listener.lock().expect("nothing panics while it holds this lock") = Some(listener);
            Ok(redirect(address.port()))
        })
    }

    fn authorize<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let listener = self.listener.lock().expect("nothing panics while it holds this lock").take();
            let listener = listener.ok_or("nobody listens for the browser")?;
            let port = listener.local_addr().map_err(|error| error.to_string())?.port();
            let state = query(url, "state").ok_or("the authorization URL has no state")?;
            (self.show)(url);
            let came_back = wait(listener, &state).await?;
            let base = redirect(port);
            Ok(format!("{}?{came_back}", base))
        })
    }
}

fn redirect(port: u16) -> String {
    format!("http://127.0.0.1:{port}{PATH}")
}

fn port_of(redirect_uri: &str) -> Option<u16> {
    let uri: Uri = redirect_uri.parse().ok()?;
    (uri.host() == Some("127.0.0.1") && uri.path() == PATH).then(|| uri.port_u16())?
}

/// A parameter of a URL, as it is written there.
fn query(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let pairs =
        query.split('#').next().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
}

/// Answers whoever comes; the first request with our `state` ends the wait. Returns its query.
async fn wait(listener: TcpListener, state: &str) -> Result<String, String> {
    let (sender, mut receiver) = mpsc::channel::<String>(1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(query) = receiver.recv() => {
                drop(listener);
                // The page that says so is still on its way.
                let _ = tokio::time::timeout(Duration::from_secs(1), async {
                    while connections.join_next().await.is_some() {}
                })
                .await;
                return Ok(query);
            }
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(answer(stream, state.to_owned(), sender.clone()));
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn answer(stream: TcpStream, state: String, sender: mpsc::Sender<String>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let page = page(&request, &state, &sender);
        async move { Ok::<_, Infallible>(page) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A browser that goes away needs no answer.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

fn page(request: &Request<Incoming>, state: &str, sender: &mpsc::Sender<String>) -> Response<Full<Bytes>> {
    let query_of = request.uri().query().unwrap_or_default();
    // Any page can send a browser here; only the answer to our own request knows its state.
    let is_ours = request.method() == Method::GET
        && request.uri().path() == PATH
        && query(&request.uri().to_string(), "state").as_deref() == Some(state);
    let (status, text) = if is_ours && sender.try_send(query_of.to_owned()).is_ok() {
        (StatusCode::OK, "Back in the terminal you see how the login went. This page can be closed.")
    } else {
        (StatusCode::NOT_FOUND, "Nothing is expected here.")
    };
    let html = format!("<!doctype html><meta charset=utf-8><title>Login</title><p>{text}</p>");
    let mut response = Response::new(Full::new(Bytes::from(html)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // The address holds a code: it is neither kept nor passed on.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mpe_engine::upstream::Person;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::Browser;

    async fn get(port: u16, target: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn only_the_answer_to_our_own_request_ends_the_wait() {
        let shown = Arc::new(std::sync::Mutex::new(String::new()));
        let showing = Arc::clone(&shown);
        let browser = Arc::new(Browser::new(None, move |url| *showing.lock().unwrap() = url.to_owned()));
        let uri = browser.redirect_uri(None).await.unwrap();
        let port = super::port_of(&uri).unwrap();
        let waiting = Arc::clone(&browser);
        let waiting =
            tokio::spawn(async move { waiting.authorize("https://as/authorize?a=1&state=s%2B1").await });
        assert!(get(port, "/favicon.ico").await.starts_with("HTTP/1.1 404"));
        assert!(get(port, "/callback?code=evil&state=other").await.starts_with("HTTP/1.1 404"));
        assert!(!waiting.is_finished());
        assert!(get(port, "/callback?code=c&state=s%2B1").await.starts_with("HTTP/1.1 200"));
        assert_eq!(waiting.await.unwrap().unwrap(), format!("{uri}?code=c&state=s%2B1"));
        assert!(shown.lock().unwrap().contains("state=s%2B1"));
    }

    #[tokio::test]
    async fn the_port_that_was_registered_is_taken_again_if_it_is_free() {
        let first = Browser::new(None, |_| {});
        let uri = first.redirect_uri(None).await.unwrap();
        let second = Browser::new(None, |_| {});
        assert_ne!(second.redirect_uri(Some(&uri)).await.unwrap(), uri);
        drop(first);
        assert_eq!(second.redirect_uri(Some(&uri)).await.unwrap(), uri);
        let fixed = Browser::new(super::port_of(&uri), |_| {});
        drop(second);
        assert_eq!(fixed.redirect_uri(None).await.unwrap(), uri);
    }
}

//! `login` and `logout`, end to end: a server that wants a token, its authorization server, and somebody with a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::run;
use super::scripted::{Answer, Scripted, Seen, mcp, ok, status};

/// A server and its authorization server on one port. The server takes the newest token only.
struct House {
    base: String,
    server: Scripted,
    /// Number of the newest token.
    newest: Arc<Mutex<u32>>,
}

impl House {
    fn new() -> Self {
        let newest = Arc::<Mutex<u32>>::default();
        let number = Arc::clone(&newest);
        let server = Scripted::new(move |seen| {
            let base = format!("http://{}", seen.header("host").unwrap());
            answer(seen, &number, &base)
        });
        Self { base: server.url(""), server, newest }
    }

    fn seen(&self, path: &str) -> Vec<Seen> {
        self.server.seen(path)
    }
}

fn answer(seen: &Seen, newest: &Mutex<u32>, base: &str) -> Answer {
    let json = |value: Value| ok(&value);
    let path = seen.target.split('?').next().unwrap_or_default();
    match path {
        "/.well-known/oauth-protected-resource/mcp" => json(json!({
            "resource": format!("{base}/mcp"), "authorization_servers": [base], "scopes_supported": ["tools"],
        })),
        "/.well-known/oauth-authorization-server" => json(json!({
            "issuer": base,
            "authorization_endpoint": format!("{base}/authorize"),
            "token_endpoint": format!("{base}/token"),
            "registration_endpoint": format!("{base}/register"),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "token_endpoint_auth_methods_supported": ["none"],
        })),
        "/register" => json(json!({ "client_id": "registered" })),
        "/authorize" => {
            let parameter = |name: &str| {
                let pairs = seen.target.split(['?', '&']).filter_map(|pair| pair.split_once('='));
                pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next().unwrap()
            };
            let redirect = parameter("redirect_uri").replace("%3A", ":").replace("%2F", "/");
            let issuer = base.replace(':', "%3A").replace('/', "%2F");
            let location = format!("{redirect}?code=c&state={}&iss={issuer}", parameter("state"));
            (format!("302 Found\r\nlocation: {location}"), String::new())
        }
        "/token" => {
            let mut newest = newest.lock().unwrap();
            let is_refresh = seen.body.contains("grant_type=refresh_token");
            if is_refresh && !seen.body.contains(&format!("refresh_token=r{newest}")) {
                return ("400 Bad Request".to_owned(), json!({ "error": "invalid_grant" }).to_string());
            }
            *newest += 1;
            json(json!({
                "access_token": format!("t{newest}"), "token_type": "Bearer", "expires_in": 3600,
                "refresh_token": format!("r{newest}"),
            }))
        }
        "/mcp" => {
            let newest = *newest.lock().unwrap();
            if newest == 0 || seen.header("authorization") != Some(&format!("Bearer t{newest}")) {
                return status("401 Unauthorized\r\nwww-authenticate: Bearer");
            }
            mcp(&["guarded"])(seen)
        }
        _ => status("404 Not Found"),
    }
}

/// Goes to an address as a browser does, redirects included.
fn browse(url: &str) -> String {
    let (authority, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    write!(stream, "GET /{target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    match text.lines().find_map(|line| line.strip_prefix("location: ")) {
        Some(next) => browse(next),
        None => text,
    }
}

/// Runs `login` with these arguments, as somebody who opens the address it prints.
fn log_in(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("mcp-proxy-engine"));
    command.args(["login", "--wait", "30s"]).args(arguments).env_remove("MPE_CONFIG");
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines.map_while(Result::ok).find(|line| line.trim().starts_with("http")).unwrap();
    assert!(browse(url.trim()).contains("200 OK"));
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The only file in a folder.
fn only_file(folder: &std::path::Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_login_is_made_once_used_renewed_and_forgotten() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "token_store = \"logins\"\n[mcp_servers.guarded]\nurl = \"{}/mcp\"\nauth = {{}}\n",
        house.base
    );
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    let tools = || run(&["tools", "--config", config], "");

    let (code, _, err) = tools();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&format!("run `mcp-proxy-engine login guarded --config {config}`")), "{err}");
    assert!(house.seen("/register").is_empty());

    let (code, out) = log_in(&["guarded", "--config", config], &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(&format!("logged in at `guarded` by {}", house.base)), "{out}");
    let kept = only_file(&folder.path().join("logins"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let authorized = house.seen("/authorize").remove(0).target;
    for part in ["code_challenge_method=S256", "scope=tools", "redirect_uri=http%3A%2F%2F127.0.0.1%3A"] {
        assert!(authorized.contains(part), "{authorized}");
    }

    let (code, out, err) = tools();
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("guarded"), "{out}");

    // The server takes the token no longer: the next process renews it, and keeps what that brings.
    {
        let mut login: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
        login["tokens"]["access_token"] = "stale".into();
        std::fs::write(&kept, login.to_string()).unwrap();
    }
    let (code, _, err) = tools();
    assert_eq!(code, 0, "{err}");
    let login: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    assert_eq!(login["tokens"]["refresh_token"], "r2");
    assert_eq!(*house.newest.lock().unwrap(), 2);

    std::fs::write(&kept, "{").unwrap();
    let (code, _, err) = tools();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("is damaged"), "{err}");
    let (code, out) = log_in(&["guarded", "--config", config], &[]);
    assert_eq!(code, 0, "{out}");
    assert_eq!(tools().0, 0);

    let (code, out, _) = run(&["logout", "guarded", "--config", config], "");
    assert_eq!((code, out.as_str()), (0, "the login at `guarded` is forgotten\n"));
    assert!(!kept.exists());
    let (code, out, _) = run(&["logout", "guarded", "--config", config], "");
    assert_eq!((code, out.as_str()), (0, "there was no login at `guarded`\n"));
}

#[test]
fn a_server_without_any_configuration_can_be_logged_in_at_by_its_address() {
    let house = House::new();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{}/mcp", house.base);
    let home = [
        ("XDG_STATE_HOME", folder.path().to_str().unwrap()),
        ("LOCALAPPDATA", folder.path().to_str().unwrap()),
    ];
    let tools = || {
        let output = super::command().args(["tools", "--url", &url]).envs(home).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, err) = tools();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&format!("run `mcp-proxy-engine login {url}`")), "{err}");
    let (code, out) = log_in(&[&url], &home);
    assert_eq!(code, 0, "{out}");
    assert_eq!(tools(), (0, String::new()));
}

#[test]
fn a_login_that_makes_no_sense_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let text = "[mcp_servers.own]\nurl = \"http://127.0.0.1:9/mcp\"\nauth = { client_id = \"a\", client_secret = \"b\" }\n\
                [mcp_servers.pipe]\ncommand = \"true\"\n";
    std::fs::write(&file, text).unwrap();
    let config = file.to_str().unwrap();
    for (server, word) in [
        ("own", "it gets its tokens by itself"),
        ("pipe", "it has no address"),
        ("other", "there are: own, pipe"),
    ] {
        let (code, out, err) = run(&["login", server, "--config", config], "");
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(word), "{err}");
    }
    let (code, _, err) = run(&["login", "name"], "");
    assert_eq!(code, 2, "{err}");
}

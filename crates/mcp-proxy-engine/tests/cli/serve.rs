//! `serve`, from its first lines to its end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::run;
use super::served::{PATIENCE, serve};

#[test]
fn without_anything_it_serves_the_demo_and_the_printed_lines_work() {
    let served = serve(&[]);
    assert!(
        served.lines.iter().any(|line| line.contains("9 tools of the embedded demo")),
        "{:?}",
        served.lines
    );
    let curls: Vec<&String> = served.lines.iter().filter(|line| line.trim().starts_with("curl ")).collect();
    assert_eq!(curls.len(), 2);

    let answer = served.request("GET", "/get_user/123", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Ada Lovelace"), "{answer}");
    assert!(curls[0].ends_with("/get_user/123"));
    let answer = served.request("POST", "/tools/echo", "{\"message\": \"hello\"}");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("hello"), "{answer}");
    assert!(
        curls[1].contains("/tools/echo -H 'content-type: application/json' -d '{\"message\": \"hello\"}'")
    );

    let metrics = served.request("GET", "/metrics", "");
    assert!(metrics.contains("mpe_calls_total{"), "{metrics}");
    let performance = served.request("GET", "/performance", "");
    assert!(performance.contains("\"http2_usage_percent\":100"), "{performance}");
}

#[test]
fn without_metrics_nothing_is_recorded_and_none_are_offered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.yaml");
    std::fs::write(&file, "metrics: false\n").unwrap();
    let served = serve(&["--config", file.to_str().unwrap()]);
    let offered = |word: &str| served.lines.iter().any(|line| line.ends_with(word));
    assert!(offered("/performance") && !served.lines.iter().any(|line| line.contains("/metrics")));
    let metrics = served.request("GET", "/metrics", "");
    assert!(metrics.starts_with("HTTP/1.1 404") && metrics.contains("no metrics are recorded"), "{metrics}");
}

#[test]
fn one_address_makes_a_transparent_proxy() {
    let behind = serve(&[]);
    let url = format!("http://{}/mcp", behind.address);
    let served = serve(&[&url, "--h2c"]);
    let answer = served.request("POST", "/tools/get_user", "{\"user_id\": \"125\"}");
    assert!(answer.contains("Katsuko"), "{answer}");
}

#[cfg(unix)]
#[test]
fn a_changed_configuration_is_taken_up_and_a_broken_one_is_not() {
    let behind = serve(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.json");
    let config = |deny: &str, title: &str, mapped: &str| {
        let url = format!("http://{}/mcp", behind.address);
        format!(
            "{{\"title\": \"{title}\", \"response_mappings\": {{\"{mapped}\": {{}}}}, \
             \"mcpServers\": {{\"demo\": {{\"url\": \"{url}\", \"deny\": [{deny}]}}}}}}"
        )
    };
    std::fs::write(&file, config("", "Before", "/get_user/{user_id}")).unwrap();
    let served = serve(&["--config", file.to_str().unwrap()]);
    served.until("/tools?format=mcp", "get_orders");

    std::fs::write(&file, "{\"mcpServers\": 7}").unwrap();
    let line = served.rest.recv_timeout(PATIENCE).unwrap();
    assert!(line.contains("proxy.json:1:16: mcpServers: expected a map, found an integer"), "{line}");
    assert!(served.request("GET", "/tools?format=mcp", "").contains("get_orders"));

    std::fs::write(&file, config("\"get_orders\", \"fail\"", "After", "/users/get_user/{user_id}")).unwrap();
    let tools =
        served.until_that("/tools?format=mcp", "fewer tools", |answer| !answer.contains("get_orders"));
    assert!(tools.contains("get_user"), "{tools}");
    served.until("/openapi.json", "\"title\":\"After\"");
    served.until("/users/get_user/123", "Ada Lovelace");
    assert!(served.request("GET", "/get_user/123", "").starts_with("HTTP/1.1 404"));

    // Nothing but how it looks changes.
    std::fs::write(&file, config("\"get_orders\", \"fail\"", "Later still", "/u/get_user/{user_id}"))
        .unwrap();
    served.until("/openapi.json", "\"title\":\"Later still\"");
    served.until("/u/get_user/124", "Grace Hopper");
}

#[cfg(unix)]
#[test]
fn a_termination_signal_lets_the_call_under_way_finish_and_ends_with_0() {
    let mut served = serve(&[]);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        let address = served.address.clone();
        scope.spawn(move || {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let body = "{\"ms\": 700}";
            write!(
                stream,
                "POST /tools/slow HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            sender.send(String::from_utf8(head.to_vec()).unwrap()).unwrap();
        });
        // The call is under way once the demo counts it.
        while !served.request("POST", "/tools/server_stats", "{}").contains("\"calls_running\":2") {}
        let status = Command::new("kill").args(["-TERM", &served.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), "HTTP/1.1 200");
    });
    let rest: Vec<String> = std::iter::from_fn(|| served.rest.recv_timeout(PATIENCE).ok()).collect();
    assert!(rest.iter().any(|line| line == "stopped"), "{rest:?}");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_exits_with_6_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, err) = run(&["serve", "--listen", &address, "--log", "error"], "");
    assert_eq!((code, out.as_str()), (6, ""));
    assert!(err.contains(&format!("cannot listen on {address}")) && err.contains("--listen"), "{err}");
}

#[test]
fn the_printed_configuration_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.yaml");
    let text = "mcp_servers:\n  a:\n    url: http://h/mcp?key=topsecret1\n    headers: {X-Key: topsecret2}\n  b:\n    command: x\n    \
                args: [\"--key=${SECRET_ARGUMENT}\"]\n    env: {KEY: topsecret4}\n";
    std::fs::write(&file, text).unwrap();
    let output = super::command()
        .args(["serve", "--print-config", "--config", file.to_str().unwrap()])
        .env("SECRET_ARGUMENT", "topsecret3")
        .output()
        .unwrap();
    assert!(output.status.success());
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!shown.contains("topsecret"), "{shown}");
    assert!(shown.contains("--key=${SECRET_ARGUMENT}") && shown.contains("[redacted]"), "{shown}");
    assert!(shown.contains("max_connections: 100"), "{shown}");
}

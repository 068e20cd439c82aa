//! Servers that registries name while `serve` runs.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::scripted::{Answer, Scripted, mcp, ok, status};
use super::served::{Served, serve, wait};

/// A server as a registry names it: its name, its address, the value of its `X-Key`.
type Named<'a> = (&'a str, &'a str, &'a str);

/// A registry that answers what it is told to, and `serve` that asks it every second.
struct Setup {
    registry: Scripted,
    answer: Arc<Mutex<Answer>>,
    served: Served,
    spell: fn(&[Named<'_>]) -> Value,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn new(kind: &str, spell: fn(&[Named<'_>]) -> Value, first: &[Named<'_>]) -> Self {
        let answer = Arc::new(Mutex::new(ok(&spell(first))));
        let told = Arc::clone(&answer);
        let registry = Scripted::new(move |_| told.lock().unwrap().clone());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("proxy.json");
        let source = json!({
            "type": kind,
            "url": registry.url("/list"),
            "headers": { "X-Registry-Key": "topsecret-registry" },
            "interval": "1s",
            "defaults": { "timeout": "20s" },
        });
        std::fs::write(&file, json!({ "sources": { "names": source } }).to_string()).unwrap();
        let served = serve(&["--config", file.to_str().unwrap(), "--log", "debug"]);
        Self { registry, answer, served, spell, _folder: folder }
    }

    /// What the registry answers from now on.
    fn say(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn list(&self, servers: &[Named<'_>]) {
        self.say(ok(&(self.spell)(servers)));
    }

    fn call(&self, tool: &str) -> String {
        self.served.request("POST", &format!("/tools/{tool}"), "{}")
    }
}

/// The Python product's `mcpServerList`.
fn graphql(servers: &[Named<'_>]) -> Value {
    let entry = |(name, url, key): &Named<'_>| json!({ "mcpLabel": name, "mcpServerUrl": url, "headers": { "X-Key": key } });
    let list: Vec<Value> = servers.iter().map(entry).collect();
    let total = list.len();
    json!({ "data": { "mcpServerList": {
        "mcpServerList": list, "pageNumber": 1, "pageSize": 100, "total": total,
    } } })
}

/// A registry's list of `server.json` documents.
fn documents(servers: &[Named<'_>]) -> Value {
    let entry = |(name, url, key): &Named<'_>| {
        let headers = json!([{ "name": "X-Key", "value": key, "isSecret": true }]);
        let server = json!({
            "name": format!("com.example/{name}"), "description": "d", "version": "1.0.0",
            "remotes": [{ "type": "streamable-http", "url": url, "headers": headers }],
        });
        let official = json!({ "status": "active", "isLatest": true });
        json!({ "server": server, "_meta": { "io.modelcontextprotocol.registry/official": official } })
    };
    json!({ "servers": servers.iter().map(entry).collect::<Vec<_>>(), "metadata": { "count": servers.len() } })
}

/// A server appears, changes its header, and goes, while what the registry says badly in between changes nothing.
fn servers_come_change_and_go(kind: &str, spell: fn(&[Named<'_>]) -> Value) {
    let (a, b) = (Scripted::new(mcp(&["tool_of_a"])), Scripted::new(mcp(&["tool_of_b"])));
    let (url_a, url_b) = (a.url("/mcp?token=topsecret-query"), b.url("/mcp"));
    let key_of_last_call = |server: &Scripted| {
        let mut calls = server.seen("/mcp").into_iter().filter(|seen| seen.json()["method"] == "tools/call");
        calls.next_back().unwrap().header("x-key").unwrap().to_owned()
    };
    let mut shown = Vec::new();
    let setup = Setup::new(kind, spell, &[("a", &url_a, "topsecret-1"), ("odd", "file:///etc/passwd", "")]);

    shown.push(setup.served.until("/tools?format=mcp", "tool_of_a"));
    assert!(setup.call("tool_of_a").contains("tool_of_a was here"));
    assert_eq!(key_of_last_call(&a), "topsecret-1");
    let ready = setup.served.request("GET", "/readyz", "");
    assert!(
        ready.contains("\"state\":\"good\"") && ready.contains("odd"),
        "what is left out is said: {ready}"
    );
    shown.push(ready);
    assert_eq!(setup.registry.seen("/list")[0].header("x-registry-key"), Some("topsecret-registry"));

    setup.list(&[("a", &url_a, "topsecret-2"), ("b", &url_b, "topsecret-3")]);
    shown.push(setup.served.until("/tools?format=mcp", "tool_of_b"));
    assert!(setup.call("tool_of_a").contains("tool_of_a was here"));
    assert_eq!(key_of_last_call(&a), "topsecret-2", "the new header goes with the next call");
    assert!(setup.call("tool_of_b").contains("tool_of_b was here"));

    for (bad, reason) in [
        (status("503 Service Unavailable"), "it answered with HTTP status 503"),
        (ok(&json!({ "topsecret-4": [] })), "its answer "),
        (("200 OK".to_owned(), "<topsecret-5>".to_owned()), "its answer is no JSON document"),
    ] {
        setup.say(bad);
        let ready = setup.served.until("/readyz", reason);
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"state\":\"failing\""), "{ready}");
        shown.push(ready);
        assert!(setup.call("tool_of_a").contains("tool_of_a was here"), "the last good list stays");
        assert!(setup.call("tool_of_b").contains("tool_of_b was here"), "the last good list stays");
    }

    setup.list(&[("b", &url_b, "topsecret-3")]);
    let gone = |answer: &str| !answer.contains("tool_of_a");
    shown.push(setup.served.until_that("/tools?format=mcp", "fewer tools", gone));
    let answer = setup.call("tool_of_a");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(setup.call("tool_of_b").contains("tool_of_b was here"));
    assert!(setup.served.request("GET", "/readyz", "").contains("\"state\":\"good\""));

    shown.push(setup.served.request("GET", "/metrics", ""));
    shown.push(setup.served.request("GET", "/performance", ""));
    // What was logged of all this has been written by now.
    wait(std::time::Duration::from_millis(200));
    let log: Vec<String> = setup.served.lines.iter().cloned().chain(setup.served.rest.try_iter()).collect();
    assert!(log.iter().any(|line| line.contains("its last good list stays")), "{log:#?}");
    for text in shown.iter().chain(&log) {
        assert!(!text.contains("topsecret"), "{text}");
    }
}

#[test]
fn servers_of_a_graphql_registry_come_change_and_go_and_a_bad_answer_changes_nothing() {
    servers_come_change_and_go("graphql", graphql);
}

#[test]
fn servers_of_a_list_of_server_documents_come_change_and_go_and_a_bad_answer_changes_nothing() {
    servers_come_change_and_go("registry", documents);
}

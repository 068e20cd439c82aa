//! Catalogues that outlive the process (`catalogue_store`).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run;
use super::scripted::{Scripted, mcp};
use super::served::{Served, serve, wait};

/// A configuration file with one server and a place for catalogues.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new(server: &Scripted, more: &str) -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap() };
        setup.write(server, more);
        setup
    }

    fn write(&self, server: &Scripted, more: &str) {
        let url = server.url("/mcp?key=topsecret1");
        let text = format!(
            "catalogue_store: kept\nmcp_servers:\n  s:\n    url: {url}\n    headers: {{X-Key: topsecret2}}\n{more}"
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("proxy.yaml")
    }

    fn serve(&self) -> Served {
        serve(&["--config", self.file().to_str().unwrap()])
    }

    /// The only file that begins so in the folder of catalogues, once it is there.
    fn kept(&self, start: &str) -> PathBuf {
        for _ in 0..200 {
            let entries = std::fs::read_dir(self.folder.path().join("kept"));
            let files = entries.into_iter().flatten().map(|entry| entry.unwrap().path());
            let is_wanted = |file: &PathBuf| {
                let name = file.file_name().unwrap().to_str().unwrap();
                name.starts_with(start) && name.ends_with(".json")
            };
            let found: Vec<_> = files.filter(is_wanted).collect();
            if let [file] = found.as_slice() {
                return file.clone();
            }
            assert!(found.is_empty(), "{found:?}");
            wait(std::time::Duration::from_millis(100));
        }
        panic!("nothing was kept");
    }
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
#[test]
fn tools_outlive_their_server_and_the_process_and_the_server_is_found_when_it_returns() {
    let server = Scripted::new(mcp(&["one", "two"]));
    let setup = Setup::new(&server, "");
    let served = setup.serve();
    served.until("/tools?format=mcp", "two");
    let lines = served.terminate();
    assert!(lines.iter().any(|line| line == "stopped"), "{lines:?}");
    let file = setup.kept("catalogue-default-");
    assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("two") && !text.contains("topsecret"), "{text}");
    let address = server.address();
    drop(server);

    let served = setup.serve();
    let tools = served.request("GET", "/tools?format=mcp", "");
    assert!(tools.contains("\"one\"") && tools.contains("\"two\""), "{tools}");
    let ready = served.until("/readyz", "refused");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("\"state\":\"stale\""), "{ready}");
    let answer = served.request("POST", "/tools/one", "{}");
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("upstream-unreachable"), "{answer}");

    let _server = Scripted::at(address, mcp(&["two", "three"]));
    served.until("/tools?format=mcp", "three");
    let answer = served.request("POST", "/tools/three", "{}");
    assert!(answer.contains("three was here"), "{answer}");
    let tools = served.request("GET", "/tools?format=mcp", "");
    assert!(!tools.contains("\"one\""), "discovery has the last word: {tools}");
}

#[test]
fn a_killed_process_has_kept_what_it_knew_of_every_endpoint_also_of_a_later_one() {
    let server = Scripted::new(mcp(&["one"]));
    let setup = Setup::new(&server, "");
    let mut served = setup.serve();
    setup.kept("catalogue-default-");
    let url = server.url("/mcp");
    setup.write(&server, &format!("endpoints:\n  later:\n    mcp_servers:\n      x: {{url: '{url}'}}\n"));
    setup.kept("catalogue-later-");
    served.child.kill().unwrap();
    drop((served, server));

    let served = setup.serve();
    for path in ["/tools?format=mcp", "/endpoints/later/tools?format=mcp"] {
        let tools = served.request("GET", path, "");
        assert!(tools.contains("\"one\""), "{tools}");
    }
}

#[test]
fn a_file_that_is_broken_is_named_and_replaced() {
    let server = Scripted::new(mcp(&["one"]));
    let setup = Setup::new(&server, "");
    let served = setup.serve();
    let file = setup.kept("catalogue-default-");
    drop(served);
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();

    let served = setup.serve();
    let warning =
        served.lines.iter().find(|line| line.contains("the kept catalogue cannot be used")).unwrap();
    assert!(warning.contains(file.to_str().unwrap()), "{warning}");
    served.until("/tools?format=mcp", "one");
    for _ in 0..200 {
        if std::fs::read(&file).unwrap() == good {
            return;
        }
        wait(std::time::Duration::from_millis(100));
    }
    panic!("it was never replaced: {:?}", served.lines);
}

#[test]
fn a_folder_that_cannot_be_written_is_said_once_and_costs_nothing_else() {
    let server = Scripted::new(mcp(&["one"]));
    let setup = Setup::new(&server, "");
    std::fs::write(setup.folder.path().join("kept"), "a file, no folder").unwrap();
    let served = setup.serve();
    served.until("/tools?format=mcp", "one");
    let patience = super::served::PATIENCE;
    let warnings = std::iter::from_fn(|| served.rest.recv_timeout(patience).ok());
    let warning = warnings.into_iter().find(|line| line.contains("the catalogue cannot be kept")).unwrap();
    assert!(warning.contains("catalogue-default-"), "{warning}");
    assert!(served.request("POST", "/tools/one", "{}").contains("one was here"));
}

#[test]
fn the_server_on_a_pipe_keeps_and_remembers_too_and_a_command_that_asks_once_does_not() {
    let server = Scripted::new(mcp(&["one"]));
    let setup = Setup::new(&server, "");
    let config = setup.file();
    let config = config.to_str().unwrap();
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
    ];
    let list = || {
        let (code, out, err) = run(&["stdio", "--config", config], &(lines.join("\n") + "\n"));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let answer = answers.into_iter().find(|answer| answer["id"] == 2).unwrap();
        answer["result"]["tools"].as_array().unwrap().len()
    };
    assert_eq!(list(), 1);
    setup.kept("catalogue-default-");
    drop(server);
    assert_eq!(list(), 1);
    let (code, _, err) = run(&["tools", "--config", config, "--wait", "5s"], "");
    assert_eq!(code, 4, "{err}");
}

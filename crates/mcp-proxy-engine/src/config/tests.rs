//! What a configuration says, and what it says when it is wrong.

use std::path::PathBuf;
use std::time::Duration;

use mpe_engine::Target;

use super::{Format, Secret, Settings, Source, config_schema};

fn environment(name: &str) -> Option<String> {
    match name {
        "EMPTY" => Some(String::new()),
        "MANY" => Some("250".to_owned()),
        "TOKEN" => Some("t0ps3cret-token".to_owned()),
        _ => None,
    }
}

fn load(text: &str, format: Format) -> Result<Settings, String> {
    let file = match format {
        Format::Json => "p.json",
        Format::Toml => "p.toml",
        Format::Yaml => "p.yaml",
    };
    Source::parse(text, format, file, PathBuf::new(), &environment)
        .and_then(Source::settings)
        .map_err(|error| error.to_string())
}

fn problems(text: &str, format: Format) -> String {
    load(text, format).err().expect("the configuration is bad")
}

#[test]
fn an_unknown_key_names_the_nearest_one_and_its_place_in_every_format() {
    let toml =
        problems("[mcp_servers.weather]\nulr = \"http://h/mcp\"\nurl = \"http://h/mcp\"\n", Format::Toml);
    assert_eq!(toml, "p.toml:2:1: mcp_servers.weather.ulr: unknown key; did you mean `url`?");

    let yaml =
        problems("mcp_servers:\n  weather:\n    ulr: http://h/mcp\n    url: http://h/mcp\n", Format::Yaml);
    assert_eq!(yaml, "p.yaml:3:5: mcp_servers.weather.ulr: unknown key; did you mean `url`?");

    let json = problems(
        "{\"mcpServers\": {\"weather\": {\n  \"ulr\": 1, \"url\": \"http://h/mcp\"}}}",
        Format::Json,
    );
    assert_eq!(json, "p.json:2:3: mcpServers.weather.ulr: unknown key; did you mean `url`?");
}

#[test]
fn a_wrong_type_says_what_was_expected_and_found_in_every_format() {
    let expected = "expected a count from 1 to 1000000, found a string";
    let toml = problems("[http2_config]\nmax_connections = \"many\"\n", Format::Toml);
    assert_eq!(toml, format!("p.toml:2:19: http2_config.max_connections: {expected}"));

    let yaml = problems("http2_config:\n  max_connections: many\n", Format::Yaml);
    assert_eq!(yaml, format!("p.yaml:2:20: http2_config.max_connections: {expected}"));

    let json = problems("{\"http2_config\": {\n \"max_connections\": \"many\"}}", Format::Json);
    assert_eq!(json, format!("p.json:2:21: http2_config.max_connections: {expected}"));
}

#[test]
fn broken_syntax_names_its_place() {
    assert!(problems("title = \n", Format::Toml).starts_with("p.toml:1:9: this is not TOML: "));
    assert!(problems("{\"title\": }", Format::Json).starts_with("p.json:1:11: this is not JSON: "));
    assert!(problems("title: [1\n", Format::Yaml).starts_with("p.yaml:"));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert!(problems("{\"title\": \"a\",\n\"title\": \"b\"}", Format::Json).contains("p.json:2:1:"));
    assert!(problems("title = \"a\"\ntitle = \"b\"\n", Format::Toml).contains("p.toml:2:"));
    assert!(problems("title: a\ntitle: b\n", Format::Yaml).contains("p.yaml:2:"));
}

#[test]
fn many_problems_are_reported_at_once_and_in_order() {
    let text = "titel = 1\nnaming = \"always\"\n[mcp_servers.a]\nurl = \"ftp://h\"\ntimeout = \"0s\"\n[mcp_servers.b]\n";
    let lines: Vec<String> = problems(text, Format::Toml).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert_eq!(lines[0], "p.toml:1:1: titel: unknown key; did you mean `title`?");
    assert_eq!(lines[1], "p.toml:2:10: naming: unknown value `always`; it may be `auto`, `plain`, `prefix`");
    assert!(
        lines[2].starts_with("p.toml:4:1: mcp_servers.a.url: expected an absolute address"),
        "{}",
        lines[2]
    );
    assert!(lines[3].starts_with("p.toml:5:11: mcp_servers.a.timeout: expected a duration"), "{}", lines[3]);
    assert!(lines[4].starts_with("p.toml:6:14: mcp_servers.b: lacks an address"), "{}", lines[4]);
}

#[test]
fn a_value_that_was_cut_out_causes_no_second_message() {
    let text = "[mcp_servers.a]\nurl = 7\n[[servers]]\nurl = 7\n";
    let lines: Vec<String> = problems(text, Format::Toml).lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "p.toml:2:7: mcp_servers.a.url: expected a string, found an integer",
            "p.toml:4:7: servers[0].url: expected a string, found an integer"
        ]
    );
}

#[test]
fn variables_are_replaced_also_where_a_number_is_wanted() {
    let text = r#"
        title = "${TITLE:-My API} ${EMPTY:-v1} $${literal}"
        http2_config.max_connections = "${MANY}"
        http2_config.enable_http2 = "${HTTP2:-false}"
        http2_config.keepalive_expiry = "${EXPIRY:-2.5}"
    "#;
    let settings = load(text, Format::Toml).unwrap();
    assert_eq!(settings.pool.max_connections, 250);
    assert!(!settings.pool.enable_http2);
    assert_eq!(settings.pool.keepalive_expiry, Duration::from_millis(2500));
    let view = settings.gateway.endpoints.values().next().unwrap();
    assert_eq!(view.info.title, "My API v1 ${literal}");
}

#[test]
fn a_missing_variable_is_named_with_its_key() {
    let text = "internal_mcp:\n  base_url: http://h/{endpoint_id}\n  bearer_token: ${NOWHERE}\n";
    assert_eq!(
        problems(text, Format::Yaml),
        "p.yaml:3:3: internal_mcp.bearer_token: the environment variable `NOWHERE` is not set; set it, or give a \
         default: `${NOWHERE:-…}`"
    );
}

#[test]
fn the_python_products_setting_is_read_verbatim() {
    let setting = r#"{
        "title": "My API", "version": "1.0.0", "servers": [{"url": "https://api.example.com"}],
        "region_name": "us-east-1", "aws_access_key_id": "AKIA", "aws_secret_access_key": "k",
        "endpoint_id": "acme",
        "internal_mcp": {"base_url": "https://mcp.example.com/{endpoint_id}", "bearer_token": "${TOKEN}"},
        "http2_config": {"enable_http2": true, "max_connections": 7, "max_keepalive_connections": 3,
            "keepalive_expiry": 10.0, "request_timeout": 12.5, "enable_concurrent_requests": false}
    }"#;
    let settings = load(setting, Format::Json).unwrap();
    assert_eq!(settings.pool.max_connections, 7);
    assert_eq!(settings.pool.request_timeout, Duration::from_millis(12_500));
    let endpoint = &settings.endpoints[0];
    assert!(!endpoint.limits.concurrent);
    assert_eq!(endpoint.upstreams.len(), 1);
    let internal = &endpoint.upstreams[0];
    assert_eq!((internal.key.as_str(), internal.timeout), ("internal", Duration::from_millis(12_500)));
    let Target::Http { url, headers, .. } = &internal.target else { panic!("{:?}", internal.target) };
    assert_eq!(url.to_string(), "https://mcp.example.com/acme");
    assert_eq!(headers[0].0, http::header::AUTHORIZATION);
    assert_eq!(secrecy::ExposeSecret::expose_secret(&headers[0].1), "Bearer t0ps3cret-token");
}

#[test]
fn an_internal_server_with_a_template_makes_endpoints_on_demand() {
    let text = "internal_mcp: {base_url: \"http://h/{endpoint_id}\"}";
    assert!(load(text, Format::Yaml).unwrap().on_demand.is_some());
    let off = "internal_mcp: {base_url: \"http://h/{endpoint_id}\", on_demand: false}";
    assert!(load(off, Format::Yaml).unwrap().on_demand.is_none());
    assert!(load("internal_mcp: {base_url: \"http://h/x\"}", Format::Yaml).unwrap().on_demand.is_none());
    let twice = "internal_mcp: {base_url: \"http://h/x\", bearer_token: a, headers: {Authorization: b}}";
    assert!(problems(twice, Format::Yaml).contains("internal_mcp.bearer_token: is sent as `Authorization`"));
}

/// How the only server of a configuration is authorized at.
fn authorization(server: &str) -> Option<mpe_engine::upstream::Authorization> {
    let text = format!("token_store: /logins\nmcp_servers: {{a: {server}}}\n");
    load(&text, Format::Yaml).unwrap().endpoints[0].upstreams[0].authorization.clone()
}

#[test]
fn a_server_s_tokens_are_got_with_the_client_s_credentials() {
    use mpe_engine::upstream::{Client, Grant};

    let how = authorization(
        "{url: 'https://a/mcp', auth: {client_id: us, client_secret: '${TOKEN}', scope: tools}}",
    );
    let how = how.unwrap();
    let client = Client::with_secret("us", secrecy::SecretString::from("t0ps3cret-token"));
    assert_eq!(how.grant, Grant::ClientCredentials(client));
    assert_eq!(how.scope.as_deref(), Some("tools"));

    let twice = "mcp_servers: {a: {url: \"http://h/x\", auth: {client_id: b, client_secret: c}, \
                 headers: {Authorization: d}}}";
    assert!(problems(twice, Format::Yaml).contains("mcp_servers.a.auth: is sent as `Authorization`"));
    let misplaced = "mcp_servers: {a: {command: run, auth: {client_id: b, client_secret: c}}}";
    assert!(
        problems(misplaced, Format::Yaml).contains("mcp_servers.a.auth: belongs to a server with a `url`")
    );
}

#[test]
fn a_login_is_used_wherever_nothing_else_is_said() {
    use mpe_engine::upstream::Grant;

    for server in [
        "{url: 'https://a/mcp'}",
        "{url: 'https://a/mcp', auth: {}}",
        "{url: 'https://a/mcp', auth: {client_id: b}}",
    ] {
        let how = authorization(server).unwrap();
        let Grant::AuthorizationCode(code) = &how.grant else { panic!("{how:?}") };
        assert_eq!(code.store.name(), "/logins");
        let hint = code.person.available().unwrap_err();
        assert!(hint.contains("run `mcp-proxy-engine login a --config "), "{hint}");
        // Reading the file again changes nothing for the engine.
        assert_eq!(authorization(server).unwrap(), how);
    }
    assert!(authorization("{url: 'https://a/mcp', headers: {authorization: b}}").is_none());
    assert!(authorization("{command: run}").is_none());
}

#[test]
fn what_a_grant_lacks_or_cannot_use_is_named() {
    for (auth, expected) in [
        ("{grant: client-credentials, client_id: a}", "needs `client_secret` or `private_key`"),
        ("{client_secret: a}", "needs `client_id` beside the secret"),
        ("{client_id: a, client_secret: b, private_key: c}", "has both a secret and a key"),
        ("{client_id: a, private_key: b}", "auth.private_key: expected a private key in PEM"),
        (
            "{client_id: a, private_key_file: /nowhere.pem}",
            "auth.private_key_file: /nowhere.pem cannot be read",
        ),
        ("{grant: jwt-bearer, client_id: a}", "needs `assertion_file` or `assertion`"),
        ("{grant: jwt-bearer, assertion: a}", "needs a `client_id`"),
        ("{grant: enterprise, client_id: a}", "needs an `identity_provider`"),
        (
            "{grant: enterprise, client_id: a, identity_provider: {token_endpoint: 'x:y', client_id: b, id_token: c}}",
            "auth.identity_provider.token_endpoint: expected an absolute address",
        ),
        (
            "{client_id: a, client_secret: b, redirect_port: 1}",
            "redirect_port: belongs to the grant `authorization-code`",
        ),
        ("{assertion: b}", "assertion: belongs to the grant `jwt-bearer`"),
        ("{client_metadata_url: 'http://a/b'}", "client_metadata_url: expected an https address with a path"),
        ("{issuer: nobody}", "auth.issuer: expected an absolute address"),
    ] {
        let text = format!("token_store: /logins\nmcp_servers: {{a: {{url: 'https://a/', auth: {auth}}}}}\n");
        let message = problems(&text, Format::Yaml);
        assert!(message.contains(expected), "{auth}: {message}");
    }
}

#[test]
fn a_desktop_clients_servers_are_read_verbatim_and_in_order() {
    let text = r#"{"mcpServers": {
        "zeta": {"type": "http", "url": "https://z.example.com/mcp", "headers": {"X-Api-Key": "${TOKEN}"}},
        "files": {"command": "npx", "args": ["-y", "server-files", "/tmp"], "env": {"DEBUG": "1"}, "cwd": "/"},
        "alpha": {"type": "streamable-http", "url": "http://127.0.0.1:9000/mcp"}
    }}"#;
    let settings = load(text, Format::Json).unwrap();
    let keys: Vec<&str> =
        settings.endpoints[0].upstreams.iter().map(|upstream| upstream.key.as_str()).collect();
    assert_eq!(keys, ["zeta", "files", "alpha"]);
    let Target::Stdio { command, args, env, .. } = &settings.endpoints[0].upstreams[1].target else {
        panic!()
    };
    assert_eq!((command.as_str(), args.len(), env[0].0.as_str()), ("npx", 3, "DEBUG"));
}

#[test]
fn a_program_can_be_started_on_demand_and_stopped_when_idle() {
    let text = "mcp_servers: {a: {command: run, start: on-demand, idle_stop: 5m}, b: {command: run}}";
    let settings = load(text, Format::Yaml).unwrap();
    let processes: Vec<_> = settings.endpoints[0]
        .upstreams
        .iter()
        .map(|upstream| (upstream.process.start, upstream.process.idle_stop))
        .collect();
    assert_eq!(
        processes,
        [
            (mpe_engine::Start::OnDemand, Some(std::time::Duration::from_secs(300))),
            (mpe_engine::Start::Eager, None)
        ]
    );
    let misplaced = "mcp_servers: {a: {url: \"http://h/\", idle_stop: 5m}}";
    assert!(
        problems(misplaced, Format::Yaml)
            .contains("mcp_servers.a.idle_stop: belongs to a server with a `command`")
    );
}

#[cfg(feature = "lambda")]
#[test]
fn a_lambda_function_is_a_server_like_any_other() {
    let text = "region_name: eu-west-1\naws_access_key_id: AKIA\naws_secret_access_key: ${TOKEN}\nmcp_servers:\n  \
                shop: {lambda: {function: \"shop-tools\", qualifier: live}}\n";
    let settings = load(text, Format::Yaml).unwrap();
    assert!(matches!(settings.endpoints[0].upstreams[0].target, Target::Custom(_)));
    let message = problems("aws_access_key_id: AKIA\n", Format::Yaml);
    assert!(message.contains("needs `aws_secret_access_key`"), "{message}");
}

#[test]
fn toml_keeps_the_order_of_servers() {
    let text = "[mcp_servers.zeta]\nurl = \"http://h/1\"\n[mcp_servers.alpha]\nurl = \"http://h/2\"\n";
    let settings = load(text, Format::Toml).unwrap();
    assert_eq!(settings.endpoints[0].upstreams[0].key.as_str(), "zeta");
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (server, expected) in [
        (r#"{"url": "http://h/", "command": "x"}"#, "has both `url` and `command`"),
        (
            r#"{"command": "x", "type": "http"}"#,
            "type: says that the server is reached by `url`, but there is `command`",
        ),
        (
            r#"{"url": "http://h/", "transport": "stdio"}"#,
            "transport: says that the server is reached by `command`",
        ),
        (r#"{"url": "http://h/", "lambda": {"function": "f"}}"#, "has both `url` and `lambda`"),
        (
            r#"{"lambda": {"function": "f"}, "headers": {"x": "y"}}"#,
            "headers: belongs to a server with a `url`",
        ),
        (r#"{"lambda": {}}"#, "lambda: the key `function` is missing"),
        (r#"{"url": "https://h/", "h2c": true}"#, "`h2c` is HTTP/2 without TLS"),
        (r#"{"url": "https://user:pass@h/"}"#, "credentials do not belong into an address"),
        (r#"{"url": "http://h/", "args": ["x"]}"#, "belongs to a server with a `command`"),
        (r#"{"url": "http://h/", "headers": {"Host": "x"}}"#, "is set by the engine itself"),
        (r#"{"url": "http://h/", "headers": {"X-A": "a\nb"}}"#, "a value that no header can carry"),
        (r#"{"url": "http://h/", "limits": {"max_body": 4096}}"#, "is no limit of a server"),
        (r#"{"url": "http://h/", "timeout": 90000}"#, "at most a day"),
    ] {
        let message = problems(&format!("{{\"mcpServers\": {{\"a\": {server}}}}}"), Format::Json);
        assert!(message.contains(expected), "{server}: {message}");
    }
}

#[test]
fn an_endpoint_must_fit_into_a_path_and_be_another_one() {
    let message = problems("{\"endpoint_id\": \"a\", \"endpoints\": {\"a\": {}, \"x y\": {}}}", Format::Json);
    assert!(message.contains("endpoints.a: this is the default endpoint's name"), "{message}");
    assert!(message.contains("endpoints.\"x y\": an endpoint's name becomes part of its URL"), "{message}");
}

#[test]
fn a_secret_is_never_shown() {
    let secret = Secret::new("t0ps3cret");
    assert_eq!(format!("{secret:?}"), "[redacted]");
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"[redacted]\"");
    let message = problems(
        "{\"mcpServers\": {\"a\": {\"url\": \"http://h\", \"headers\": {\"X\": 123456}}}}",
        Format::Json,
    );
    assert!(!message.contains("123456"), "{message}");
    let message = problems("{\"aws_access_key_id\": \"t0ps3cret ${\"}", Format::Json);
    assert!(!message.contains("t0ps3cret"), "{message}");
}

#[test]
fn a_file_of_another_kind_or_none_at_all_is_named() {
    let error = Source::open(&PathBuf::from("proxy.ini")).unwrap_err().to_string();
    assert_eq!(error, "proxy.ini: expected a file that ends in .toml, .yaml, .yml or .json");
    let error = Source::open(&PathBuf::from("/nowhere/proxy.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/proxy.toml: cannot be read: "), "{error}");
}

#[test]
fn the_schema_describes_every_key_and_forbids_others() {
    let schema = serde_json::to_value(config_schema()).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let keys = schema["properties"].as_object().unwrap();
    for key in ["title", "http2_config", "mcp_servers", "internal_mcp", "listen", "endpoints"] {
        assert!(
            keys[key]["description"].is_string() || keys[key]["$ref"].is_string(),
            "{key}: {}",
            keys[key]
        );
    }
    assert!(keys.contains_key("mcpServers"), "the alias of desktop clients");
}

#[test]
fn no_text_makes_reading_panic() {
    let seeds = [
        "title = \"x\"\n[mcp_servers.a]\nurl = \"http://h/${A:-b}\"\ntimeout = 1.5\nallow = [\"x\", 2]\n",
        "mcp_servers:\n  a: &x {url: 'http://h/', headers: {A: \"é\"}}\n  b: *x\nservers: [{url: 7}]\n",
        "{\"mcpServers\": {\"\\u0061\": {\"url\": \"http://h/\", \"timeout\": \"${T:-}\"}}, \"http2_config\": [null, 1e400]}",
    ];
    for seed in seeds {
        for format in [Format::Json, Format::Toml, Format::Yaml] {
            // Every prefix, and the text without each one of its characters.
            for (at, c) in seed.char_indices() {
                let _ = load(&seed[..at], format);
                let _ = load(&[&seed[..at], &seed[at + c.len_utf8()..]].concat(), format);
            }
        }
    }
}

#[test]
fn registries_are_sources_with_everything_that_their_servers_share() {
    let text = r#"
[sources.tenants]
type = "graphql"
url = "https://registry.example.com/{endpoint_id}/graphql"
headers = { authorization = "Bearer ${TOKEN}" }
interval = "5m"
on_demand = true
defaults = { timeout = "7s", deny = ["rm"], limits = { max_in_flight = 3 } }

[endpoints.acme.sources.public]
type = "registry"
url = "https://registry.example.com/v0.1/servers"
only = ["io.github.acme/*"]
inputs = { API_KEY = "${TOKEN}" }
max_servers = 20
"#;
    let settings = load(text, Format::Toml).unwrap();
    let graphql = &settings.endpoints[0].sources[0];
    assert_eq!((graphql.name(), graphql.interval.as_secs()), ("tenants", 300));
    assert_eq!(graphql.template.timeout, Duration::from_secs(7));
    assert_eq!(
        (graphql.template.deny.as_slice(), graphql.template.limits.max_in_flight),
        (&["rm".to_owned()][..], 3)
    );
    let registry = &settings.endpoints[1].sources[0];
    assert_eq!((registry.name(), registry.max_servers), ("public", 20));
    let made = settings.on_demand.unwrap().endpoint(&mpe_engine::EndpointId::new("other")).unwrap();
    assert_eq!((made.upstreams.len(), made.sources.len()), (0, 1));
    assert_eq!(made.sources[0], *graphql);
}

#[test]
fn a_source_that_contradicts_itself_is_refused() {
    let refused = |body: &str| {
        problems(
            &format!("[sources.s]\ntype = \"graphql\"\nurl = \"https://r.example.com\"\n{body}"),
            Format::Toml,
        )
    };
    let places = [
        ("only = [\"a/b\"]\n", "sources.s.only: belongs to a source of type `registry`"),
        ("list = \"data\"\n", "sources.s.list: expected a JSON Pointer"),
        (
            "defaults = { url = \"https://x.example.com\" }\n",
            "sources.s.defaults.url: is for one server alone",
        ),
        ("headers = { host = \"h\" }\n", "sources.s.headers.host: is set by the engine itself"),
    ];
    for (body, expected) in places {
        let told = refused(body);
        assert!(told.contains(expected), "{told}");
    }
    let inner = problems(
        "[endpoints.a.sources.s]\ntype = \"registry\"\nurl = \"https://r.example.com\"\non_demand = true\n",
        Format::Toml,
    );
    assert!(inner.contains("makes endpoints at the top of the file alone"), "{inner}");
}

#[test]
fn single_tools_second_requests_and_several_addresses_reach_the_engine() {
    let text = r#"
[mcp_servers.search]
urls = ["https://a.example.com/mcp", "https://b.example.com/mcp"]
check_outputs = true
lists = "per-client"
hedge = { after = "80ms", percentile = 95 }
reuse = { coalesce = true, cache = "30s", cache_size = "1MiB" }
ejection = { failures = 3, max_pause = "1m" }

[mcp_servers.search.tools.find]
name = "search"
description = "Finds."
max_in_flight = 2
max_waiting = 5
"#;
    let settings = load(text, Format::Toml).unwrap();
    let upstream = &settings.endpoints[0].upstreams[0];
    let Target::Balanced { urls, .. } = &upstream.target else { panic!("{:?}", upstream.target) };
    assert_eq!(urls.len(), 2);
    assert!(upstream.check_outputs && upstream.reuse.coalesce);
    assert_eq!(upstream.lists, mpe_engine::Lists::PerClient);
    let hedge = upstream.hedge.as_ref().unwrap();
    assert_eq!((hedge.after, hedge.percentile), (Duration::from_millis(80), Some(95)));
    assert_eq!((upstream.reuse.cache, upstream.reuse.cache_bytes), (Some(Duration::from_secs(30)), 1 << 20));
    assert_eq!((upstream.ejection.failures, upstream.ejection.max_pause), (3, Duration::from_secs(60)));
    let limits = &upstream.tool_limits["find"];
    assert_eq!((limits.max_in_flight, limits.max_waiting), (2, 5));
    assert_eq!(upstream.overrides["find"].name.as_deref(), Some("search"));
}

#[test]
fn what_makes_no_sense_of_a_server_is_refused() {
    let two = "urls = [\"https://a.example.com/mcp\", \"https://b.example.com/mcp\"]\n";
    let cases = [
        (format!("url = \"https://c.example.com/mcp\"\n{two}"), "s.urls: stands beside `url`"),
        (
            "urls = [\"https://a.example.com\", \"https://a.example.com\"]\n".to_owned(),
            "s.urls[1]: stands in the list twice",
        ),
        (
            "urls = [\"https://a.example.com\", \"ftp://b\"]\n".to_owned(),
            "s.urls[1]: expected an absolute address",
        ),
        (
            "url = \"https://a.example.com\"\nejection = { failures = 2 }\n".to_owned(),
            "s.ejection: is for a server with several",
        ),
        (format!("{two}hedge = {{ percentile = 100 }}\n"), "s.hedge.percentile: expected a percentage"),
        (format!("{two}tools.t.max_waiting = 3\n"), "s.tools.t.max_waiting: means something beside"),
    ];
    for (body, expected) in cases {
        let told = problems(&format!("[mcp_servers.s]\n{body}"), Format::Toml);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn each_face_can_be_told_not_to_check_arguments() {
    let settings =
        load("check_mcp_arguments = true\ncheck_arguments = { graphql = false }\n", Format::Toml).unwrap();
    let checks = settings.gateway.checks;
    assert!(settings.gateway.check_mcp_arguments);
    assert_eq!((checks.rest, checks.batch, checks.functions, checks.graphql), (true, true, true, false));
}

#[test]
fn who_may_call_the_api_stands_in_its_document() {
    let text = r#"
security = [{ bearer = [], key = [] }]
[security_schemes]
bearer = { type = "http", scheme = "bearer" }
key = { type = "apiKey", in = "header", name = "X-Api-Key" }
[mcp_servers.a]
url = "http://h/mcp"
[endpoints.open.mcp_servers.a]
url = "http://h/mcp"
"#;
    let settings = load(text, Format::Toml).unwrap();
    let security = |endpoint: &str| {
        let view = &settings.gateway.endpoints[&mpe_engine::EndpointId::new(endpoint)];
        let document = mpe_schema::openapi::document(
            &view.info,
            &mpe_schema::Operations::of([], &[]),
            mpe_schema::openapi::OpenApiVersion::V3_1,
        );
        (document["security"].clone(), document["components"]["securitySchemes"].clone())
    };
    let (required, schemes) = security("default");
    assert_eq!(required, serde_json::json!([{ "bearer": [], "key": [] }]));
    assert_eq!(schemes["bearer"], serde_json::json!({ "type": "http", "scheme": "bearer" }));
    assert_eq!(security("open"), (serde_json::json!([]), serde_json::Value::Null));

    let text = "security = [{ b = [] }]\n[security_schemes]\na = { type = \"mtls\" }\n[mcp_servers.a]\nurl = \"http://h\"\n";
    let found = problems(text, Format::Toml);
    assert!(found.contains("p.toml:3:") && found.contains("expected `type` to be"), "{found}");
    assert!(found.contains("p.toml:1:") && found.contains("there is no scheme `b`"), "{found}");
}

#[test]
fn a_list_is_no_table() {
    for text in
        ["[mcp_servers]\nsearch = [\"http://h\"]\n", "limits = [5, 6]\n[mcp_servers.a]\nurl = \"http://h\"\n"]
    {
        let found = problems(text, Format::Toml);
        assert!(found.contains("expected a table"), "{found}");
    }
    assert!(problems("[null, \"My title\"]", Format::Json).contains("expected a table"));
}

use std::time::Duration;

use futures_util::FutureExt;
use mpe_transport::{Pool, PoolConfig, TlsConfig};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{GraphqlRegistry, McpRegistry, SourceConfig, SourceError, SourceKind, Sourced};
use crate::upstream::testing::{Peer, Reply, Seen, answer, json_answer};
use crate::{EndpointId, Target};

async fn asked(kind: SourceKind, endpoint: &str) -> Result<Sourced, SourceError> {
    let pool = Pool::new(PoolConfig::default(), TlsConfig::default()).unwrap();
    let source = SourceConfig::new(kind).connect(Some(&pool));
    source.upstreams(&EndpointId::new(endpoint), Instant::now() + Duration::from_secs(10)).await
}

async fn peer(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Peer {
    Peer::start(move |seen| {
        let reply = script(&seen);
        async move { reply }.boxed()
    })
    .await
}

/// Key, address and headers of a server over HTTP.
type Shown = (String, String, Vec<(String, String)>);

fn addresses(sourced: &Sourced) -> Vec<Shown> {
    let shown = |target: &Target| match target {
        Target::Http { url, headers, .. } => {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.expose_secret().to_owned()))
                .collect();
            (url.to_string(), headers)
        }
        other => panic!("not over HTTP: {other:?}"),
    };
    sourced
        .upstreams
        .iter()
        .map(|upstream| {
            let (url, headers) = shown(&upstream.target);
            (upstream.key.to_string(), url, headers)
        })
        .collect()
}

fn reasons(sourced: &Sourced) -> Vec<(&str, &str)> {
    sourced.left_out.iter().map(|(name, reason)| (name.as_str(), reason.as_str())).collect()
}

// === GraphQL ===

#[tokio::test]
async fn the_python_product_s_list_is_read_page_by_page() {
    let peer = peer(|seen| {
        let page = seen.body["variables"]["pageNumber"].as_u64().unwrap();
        let of_page = match page {
            1 => json!([
                { "mcpLabel": "weather", "mcpServerUrl": "https://weather.example.com/mcp",
                  "headers": { "authorization": "Bearer w" } },
                { "mcpLabel": "as text", "mcpServerUrl": "https://text.example.com/mcp",
                  "headers": "{\"x-key\":\"t\"}" },
            ]),
            _ => json!([
                { "mcpLabel": "as pairs", "mcpServerUrl": "http://pairs.example.com/mcp",
                  "headers": [{ "name": "X-Key", "value": "p" }] },
            ]),
        };
        let list = json!({ "mcpServerList": of_page, "pageNumber": page, "total": 3 });
        json_answer(200, &json!({ "data": { "mcpServerList": list } }))
    })
    .await;
    let mut registry =
        GraphqlRegistry::new("registry", format!("http://{}/{{endpoint_id}}/graphql", peer.address));
    registry.headers = vec![(
        http::HeaderName::from_static("x-endpoint"),
        SecretString::from("of {endpoint_id}".to_owned()),
    )];
    let sourced = asked(SourceKind::Graphql(registry), "acme").await.unwrap();
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(
        addresses(&sourced),
        [
            (
                "weather".to_owned(),
                "https://weather.example.com/mcp".to_owned(),
                pair("authorization", "Bearer w")
            ),
            ("as text".to_owned(), "https://text.example.com/mcp".to_owned(), pair("x-key", "t")),
            ("as pairs".to_owned(), "http://pairs.example.com/mcp".to_owned(), pair("x-key", "p")),
        ]
    );
    let seen = peer.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].path.as_str(), seen[0].header("x-endpoint")), ("/acme/graphql", Some("of acme")));
    assert!(seen[0].body["query"].as_str().unwrap().contains("mcpServerList"));
}

#[tokio::test]
async fn another_schema_is_read_by_its_own_query_and_names() {
    let peer = peer(|_| {
        let nodes = json!([{ "id": "a", "endpoint": "https://a.example.com/mcp" }]);
        json_answer(200, &json!({ "data": { "tenant": { "servers": nodes } } }))
    })
    .await;
    let mut registry = GraphqlRegistry::new("registry", format!("http://{}/graphql", peer.address));
    registry.query = "query ($tenant: ID!) { tenant(id: $tenant) { servers { id endpoint } } }".to_owned();
    registry.variables.insert("tenant".to_owned(), json!("t-{endpoint_id}"));
    registry.list = "/data/tenant/servers".to_owned();
    registry.label = "id".to_owned();
    registry.address = "endpoint".to_owned();
    let sourced = asked(SourceKind::Graphql(registry), "acme").await.unwrap();
    assert_eq!(addresses(&sourced)[0].1, "https://a.example.com/mcp");
    assert_eq!(peer.seen().len(), 1, "a query without `$pageNumber` is asked once");
    assert_eq!(peer.seen()[0].body["variables"], json!({ "tenant": "t-acme" }));
}

#[tokio::test]
async fn entries_that_cannot_be_used_are_left_out_with_the_reason() {
    let peer = peer(|_| {
        let list = json!([
            { "mcpLabel": "good", "mcpServerUrl": "https://good.example.com/mcp" },
            { "mcpLabel": "file", "mcpServerUrl": "file:///etc/passwd" },
            { "mcpLabel": "secret", "mcpServerUrl": "https://user:hunter2@example.com/mcp" },
            { "mcpServerUrl": "https://nameless.example.com/mcp" },
            { "mcpLabel": "host", "mcpServerUrl": "https://h.example.com/mcp", "headers": { "Host": "other" } },
            { "mcpLabel": "odd", "mcpServerUrl": "https://o.example.com/mcp", "headers": 7 },
        ]);
        json_answer(200, &json!({ "data": { "mcpServerList": { "mcpServerList": list } } }))
    })
    .await;
    let registry = GraphqlRegistry::new("registry", format!("http://{}/graphql", peer.address));
    let sourced = asked(SourceKind::Graphql(registry), "acme").await.unwrap();
    assert_eq!(addresses(&sourced).len(), 1);
    let names: Vec<_> = reasons(&sourced).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["file", "secret", "", "host", "odd"]);
    assert!(!format!("{:?}", sourced.left_out).contains("hunter2"), "no secret is repeated");
}

#[tokio::test]
async fn a_refused_query_an_error_status_and_another_document_are_told_apart() {
    let peer = peer(|seen| match seen.path.as_str() {
        "/refused" => json_answer(200, &json!({ "data": null, "errors": [{ "message": "no such field" }] })),
        "/down" => answer(503, &[], "later"),
        "/html" => answer(200, &[], "<html>"),
        _ => json_answer(200, &json!({ "data": {} })),
    })
    .await;
    let mut told = Vec::new();
    for path in ["refused", "down", "html", "empty"] {
        let registry = GraphqlRegistry::new("registry", format!("http://{}/{path}", peer.address));
        told.push(asked(SourceKind::Graphql(registry), "acme").await.unwrap_err().0);
    }
    assert_eq!(told[0], "the query is refused: no such field");
    assert_eq!(told[1], "it answered with HTTP status 503");
    assert!(told[2].starts_with("its answer is no JSON document"), "{}", told[2]);
    assert_eq!(told[3], "its answer has nothing at /data/mcpServerList/mcpServerList");
}

// === server.json ===

fn entry(server: Value) -> Value {
    entry_of(server, json!({ "status": "active", "isLatest": true }))
}

fn entry_of(server: Value, official: Value) -> Value {
    json!({ "server": server, "_meta": { "io.modelcontextprotocol.registry/official": official } })
}

fn remote(name: &str, url: &str) -> Value {
    json!({ "name": name, "description": "d", "version": "1.0.0",
            "remotes": [{ "type": "streamable-http", "url": url }] })
}

#[tokio::test]
async fn a_registry_is_read_to_its_last_page_and_the_newest_version_of_each_server_is_taken() {
    let peer = peer(|seen| {
        if seen.path.contains("cursor=a%2Fb") {
            let last = entry(remote("com.example/second", "https://second.example.com/mcp"));
            return json_answer(200, &json!({ "servers": [last], "metadata": { "count": 1 } }));
        }
        let servers = [
            entry_of(
                remote("com.example/first", "https://old.example.com/mcp"),
                json!({ "isLatest": false }),
            ),
            entry(remote("com.example/first", "https://first.example.com/mcp")),
            entry_of(
                remote("com.example/gone", "https://gone.example.com/mcp"),
                json!({ "status": "deleted" }),
            ),
        ];
        json_answer(200, &json!({ "servers": servers, "metadata": { "nextCursor": "a/b" } }))
    })
    .await;
    let registry = McpRegistry::new("registry", format!("http://{}/v0.1/servers", peer.address));
    let sourced = asked(SourceKind::Registry(registry), "acme").await.unwrap();
    let found: Vec<_> = addresses(&sourced).into_iter().map(|(key, url, _)| (key, url)).collect();
    assert_eq!(
        found,
        [
            ("com.example.first".to_owned(), "https://first.example.com/mcp".to_owned()),
            ("com.example.second".to_owned(), "https://second.example.com/mcp".to_owned()),
        ]
    );
    assert_eq!(peer.seen()[0].path, "/v0.1/servers?version=latest&limit=100");
}

fn documents(documents: Value) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |_| json_answer(200, &documents)
}

#[tokio::test]
async fn inputs_fill_addresses_and_headers_and_a_server_without_them_is_left_out() {
    let templated = |name: &str| {
        json!({ "name": name, "description": "d", "version": "1.0.0", "remotes": [
            { "type": "sse", "url": "https://old.example.com/sse" },
            { "type": "streamable-http", "url": "https://{tenant}.example.com/{path}/mcp",
              "variables": { "tenant": { "isRequired": true }, "path": { "default": "v1" } },
              "headers": [
                { "name": "Authorization", "value": "Bearer {token}", "variables": { "token": { "isSecret": true } } },
                { "name": "X-Region", "choices": ["eu", "us"], "default": "eu" },
                { "name": "X-Optional" },
              ] } ] })
    };
    let peer = peer(documents(json!([templated("com.example/told"), templated("com.example/untold")]))).await;
    let mut registry = McpRegistry::new("registry", format!("http://{}/list.json", peer.address));
    registry.inputs.insert("com.example/told:tenant".to_owned(), SecretString::from("acme".to_owned()));
    registry.inputs.insert("token".to_owned(), SecretString::from("t0k".to_owned()));
    let sourced = asked(SourceKind::Registry(registry), "acme").await.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        addresses(&sourced),
        [(
            "com.example.told".to_owned(),
            "https://acme.example.com/v1/mcp".to_owned(),
            vec![pair("authorization", "Bearer t0k"), pair("x-region", "eu")]
        )]
    );
    let left_out = reasons(&sourced);
    assert_eq!(left_out, [("com.example/untold", "it must be told `tenant`; say so in `inputs`")]);
}

fn package(kind: &str, identifier: &str) -> Value {
    json!({ "name": format!("com.example/{kind}"), "description": "d", "version": "2.0.0", "packages": [{
        "registryType": kind, "identifier": identifier, "version": "2.0.0", "transport": { "type": "stdio" },
        "packageArguments": [
            { "type": "positional", "valueHint": "directory", "default": "/data" },
            { "type": "named", "name": "--mode", "value": "fast" },
        ],
        "environmentVariables": [{ "name": "API_KEY", "isRequired": true, "isSecret": true }],
    }] })
}

#[tokio::test]
async fn packages_run_only_where_the_operator_says_so() {
    let list = json!([
        package("npm", "@example/server"),
        package("pypi", "example-server"),
        package("oci", "ghcr.io/example/server:1.2"),
        package("nuget", "Example.Server"),
        package("npm", "--registry=https://evil.example.com"),
    ]);
    let peer = peer(documents(list)).await;
    let mut registry = McpRegistry::new("registry", format!("http://{}/list.json", peer.address));
    registry.inputs.insert("API_KEY".to_owned(), SecretString::from("k".to_owned()));
    let refused = asked(SourceKind::Registry(registry.clone()), "acme").await.unwrap();
    assert!(refused.upstreams.is_empty());
    assert_eq!(reasons(&refused)[0].1, "it is a package, and packages of this registry may not run here");

    registry.run_packages = true;
    let sourced = asked(SourceKind::Registry(registry), "acme").await.unwrap();
    let commands: Vec<String> = sourced
        .upstreams
        .iter()
        .map(|upstream| match &upstream.target {
            Target::Stdio { command, args, env, .. } => {
                assert_eq!(env[0].0, "API_KEY");
                format!("{command} {}", args.join(" "))
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        commands,
        [
            "npx -y @example/server@2.0.0 /data --mode fast",
            "uvx example-server@2.0.0 /data --mode fast",
            "docker run -i --rm -e API_KEY ghcr.io/example/server:1.2 /data --mode fast",
        ]
    );
    assert_eq!(reasons(&sourced), [("com.example/nuget", "packages of type `nuget` cannot be run here")]);
}

#[tokio::test]
async fn only_the_servers_that_are_wanted_are_taken() {
    let list = json!([
        remote("com.example/a", "https://a.example.com/mcp"),
        remote("com.example/b", "https://b.example.com/mcp"),
        remote("org.other/c", "https://c.example.com/mcp"),
    ]);
    let peer = peer(documents(list)).await;
    let mut registry = McpRegistry::new("registry", format!("http://{}/list.json", peer.address));
    registry.only = vec!["org.other/*".to_owned(), "com.example/b".to_owned()];
    let sourced = asked(SourceKind::Registry(registry), "acme").await.unwrap();
    let keys: Vec<_> = sourced.upstreams.iter().map(|upstream| upstream.key.as_str()).collect();
    assert_eq!(keys, ["com.example.b", "org.other.c"]);
    assert!(sourced.left_out.is_empty());
}

#[test]
fn sources_are_equal_when_they_ask_the_same_place_the_same_question() {
    let with = |secret: &str| {
        let mut registry = McpRegistry::new("r", "https://example.com");
        registry.inputs.insert("k".to_owned(), SecretString::from(secret.to_owned()));
        SourceConfig::new(SourceKind::Registry(registry))
    };
    assert_eq!(with("a"), with("a"));
    assert_ne!(with("a"), with("b"));
    assert!(!format!("{:?}", with("hunter2")).contains("hunter2"));
}

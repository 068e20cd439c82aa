//! Prompts, resources and templates in the catalogue.

use mpe_engine::{CollisionKind, EndpointId, Engine, Snapshot, UpstreamKey};
use serde_json::{Value, json};

use crate::scripted::{Scripted, engine, upstream};

fn snapshot(engine: &Engine) -> std::sync::Arc<Snapshot> {
    engine.snapshot(&EndpointId::default()).unwrap()
}

fn resource(uri: &str) -> Value {
    json!({ "uri": uri, "name": uri, "size": 7 })
}

#[tokio::test(start_paused = true)]
async fn lists_are_asked_for_only_where_the_server_declares_them() {
    let (plain, rich) = (Scripted::named(&["t"]), Scripted::named(&["u"]));
    plain.set_items("undeclared", []);
    rich.set_items("prompts", [json!({ "name": "greet" })]);
    rich.set_items("resources", [resource("file:///a")]);
    rich.set_items("resourceTemplates", [json!({ "uriTemplate": "db://{table}", "name": "table" })]);
    let engine = engine(vec![upstream("plain", &plain), upstream("rich", &rich)]).await;
    let catalogue = &snapshot(&engine).catalogue;
    assert_eq!(catalogue.prompts().len(), 1);
    assert_eq!(&*catalogue.prompt("greet").unwrap().original_name, "greet");
    assert_eq!(&*catalogue.resources()[0].uri, "file:///a");
    assert_eq!(&*catalogue.resource_templates()[0].uri_template, "db://{table}");
    assert_eq!((catalogue.upstreams()[0].resources, catalogue.upstreams()[1].resources), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn prompts_that_two_servers_have_are_renamed_like_tools() {
    let (a, b) = (Scripted::named(&[]), Scripted::named(&[]));
    for server in [&a, &b] {
        server.set_items("prompts", [json!({ "name": "greet", "title": "Greet" })]);
    }
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    let catalogue = &snapshot(&engine).catalogue;
    let prompt = catalogue.prompt("b_greet").unwrap();
    assert_eq!(prompt.raw.get(), r#"{"name":"b_greet","title":"Greet"}"#);
    assert_eq!((&*prompt.original_name, prompt.upstream.as_str()), ("greet", "b"));
    assert_eq!(catalogue.collisions()[0].kind, CollisionKind::Prompt);
}

#[tokio::test(start_paused = true)]
async fn uris_lead_to_their_servers_by_listing_template_scheme_and_prefix() {
    let (a, b) = (Scripted::named(&[]), Scripted::named(&[]));
    a.set_items("resources", [resource("file:///shared"), resource("file:///a")]);
    b.set_items("resources", [resource("file:///shared"), resource("git://b/x")]);
    b.set_items("resourceTemplates", [json!({ "uriTemplate": "file:///logs/{day}", "name": "logs" })]);
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    let catalogue = &snapshot(&engine).catalogue;
    let resolve = |uri: &str| {
        let found = catalogue.resolve_uri(uri);
        found.map(|(upstream, original)| (upstream.as_str().to_owned(), original.into_owned()))
    };
    let to = |upstream: &str, uri: &str| Some((upstream.to_owned(), uri.to_owned()));
    assert_eq!(resolve("file:///shared"), to("a", "file:///shared"), "the first server keeps it");
    assert_eq!(resolve("mcp-proxy://b/file:///shared"), to("b", "file:///shared"));
    assert_eq!(resolve("file:///logs/monday"), to("b", "file:///logs/monday"), "its template");
    assert_eq!(resolve("git://b/unlisted"), to("b", "git://b/unlisted"), "its scheme");
    assert_eq!(resolve("file:///unlisted"), None, "both list files");
    assert_eq!(
        catalogue.exposed_uri(&UpstreamKey::new("b"), "file:///shared"),
        "mcp-proxy://b/file:///shared"
    );
    assert!(catalogue.resource("mcp-proxy://b/file:///shared").unwrap().raw.get().contains(r#""size":7"#));
}

#[tokio::test(start_paused = true)]
async fn the_only_server_with_resources_gets_every_uri() {
    let (a, b) = (Scripted::named(&[]), Scripted::named(&[]));
    b.set_items("resources", []);
    let engine = engine(vec![upstream("a", &a), upstream("b", &b)]).await;
    assert_eq!(snapshot(&engine).catalogue.route_uri("any:thing"), Some(&UpstreamKey::new("b")));
}

#[tokio::test(start_paused = true)]
async fn a_changed_prompt_changes_the_revision() {
    let server = Scripted::named(&["t"]);
    server.set_items("prompts", [json!({ "name": "greet" })]);
    let engine = engine(vec![upstream("a", &server)]).await;
    let before = snapshot(&engine).catalogue.revision().to_owned();
    server.set_items("prompts", [json!({ "name": "greet", "description": "hello" })]);
    engine.refresh(&EndpointId::default()).await.unwrap();
    assert_ne!(snapshot(&engine).catalogue.revision(), before);
}

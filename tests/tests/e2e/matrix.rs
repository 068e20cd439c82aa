//! `rmcp`, as a client of either era, in front of servers that speak only one: tools, progress, cancellation, resources and
//! subscriptions, logging, elicitation, sampling, roots, and several of these in one call.

#![allow(deprecated, reason = "what 2026-07-28 deprecates is what is bridged here")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpe_engine::{Target, UpstreamConfig};
use mpe_tests::{Era, Eras, PATIENCE, Reference, RunningGateway, gateway};
use mpe_transport::Wire;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ClientRequest, CreateMessageRequestParams,
    CreateMessageResult, ElicitRequestParams, ElicitResult, Implementation, ListRootsResult, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, ReadResourceRequestParams, Request,
    ResourceUpdatedNotificationParam, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestContext, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientServiceExt as _, ErrorData};
use serde_json::json;

use crate::interop::{lifecycle, object, plain_http};

/// The resource that changes.
const WATCHED: &str = "test://watched-resource";

/// Somebody who answers, and what it has heard.
#[derive(Clone, Default)]
struct Person {
    progress: Arc<Mutex<Vec<f64>>>,
    updated: Arc<Mutex<Vec<String>>>,
    logged: Arc<Mutex<usize>>,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let declared = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
        let capabilities: ClientCapabilities = serde_json::from_value(declared).unwrap();
        ClientConfig::new(capabilities, Implementation::new("matrix", "1.0.0"))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let answer =
            json!({ "action": "accept", "content": { "username": "ada", "email": "ada@example.com" } });
        Ok(serde_json::from_value(answer).unwrap())
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let said =
            json!({ "role": "assistant", "model": "none", "content": { "type": "text", "text": "hello" } });
        Ok(serde_json::from_value(said).unwrap())
    }

    async fn list_roots(&self, _: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Ok(serde_json::from_value(json!({ "roots": [{ "uri": "file:///tmp", "name": "tmp" }] })).unwrap())
    }

    async fn on_logging_message(
        &self,
        _: LoggingMessageNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        *self.logged.lock().unwrap() += 1;
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().unwrap().push(params.progress);
    }

    async fn on_resource_updated(
        &self,
        params: ResourceUpdatedNotificationParam,
        _: NotificationContext<RoleClient>,
    ) {
        self.updated.lock().unwrap().push(params.uri);
    }
}

type Client = RunningService<RoleClient, Person>;

async fn connect(gateway: &RunningGateway, era: Era) -> (Client, Person) {
    let person = Person::default();
    let transport = StreamableHttpClientTransport::with_client(
        plain_http(),
        StreamableHttpClientTransportConfig::with_uri(gateway.url("/mcp")),
    );
    let client = person.clone().serve_with_lifecycle(transport, lifecycle(era)).await.unwrap();
    (client, person)
}

async fn call(client: &Client, tool: &str, arguments: &str) -> String {
    let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(object(arguments));
    let result = client.call_tool(call).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
    serde_json::to_value(&result).unwrap()["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// Waits until it holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

async fn every_step(gateway: &RunningGateway, era: Era, case: &str) {
    let (client, person) = connect(gateway, era).await;
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "test_simple_text"), "{case}");
    assert_eq!(call(&client, "test_simple_text", "{}").await, "This is a simple text response for testing.");

    call(&client, "test_tool_with_progress", "{}").await;
    until(&format!("{case}: all progress is heard"), async || person.progress.lock().unwrap().len() == 3)
        .await;

    let read = client.read_resource(ReadResourceRequestParams::new("test://static-text")).await.unwrap();
    let text = serde_json::to_value(&read).unwrap()["contents"][0]["text"].clone();
    assert_eq!(text, "This is the content of the static text resource.", "{case}");

    let answer = call(&client, "test_elicitation", r#"{"message":"Who are you?"}"#).await;
    assert!(answer.contains("action=accept") && answer.contains("ada@example.com"), "{case}: {answer}");
    for (tool, arguments, expected) in [
        ("test_sampling", r#"{"prompt":"Say hello"}"#, "LLM response: hello"),
        ("test_input_required_result_list_roots", "{}", "file:///tmp"),
        ("test_input_required_result_multiple_inputs", "{}", "1 root(s)"),
        ("test_input_required_result_multi_round", "{}", "likes"),
    ] {
        let answer = call(&client, tool, arguments).await;
        assert!(answer.contains(expected), "{case}, {tool}: {answer}");
    }

    let mut logging = json!({ "name": "test_tool_with_logging" });
    match era {
        Era::Legacy => client.set_level(SetLevelRequestParams::new(LoggingLevel::Debug)).await.unwrap(),
        Era::Modern => logging["_meta"] = json!({ "io.modelcontextprotocol/logLevel": "debug" }),
    }
    *person.logged.lock().unwrap() = 0;
    client.call_tool(serde_json::from_value(logging).unwrap()).await.unwrap();
    until(&format!("{case}: every log line is heard"), async || *person.logged.lock().unwrap() == 3).await;

    match era {
        Era::Legacy => {
            client.subscribe(SubscribeRequestParams::new(WATCHED)).await.unwrap();
            until(&format!("{case}: an update is heard of"), async || {
                call(&client, "test_trigger_resource_update", "{}").await;
                person.updated.lock().unwrap().iter().any(|uri| uri == WATCHED)
            })
            .await;
        }
        Era::Modern => {
            let filter = json!({ "resourceSubscriptions": [WATCHED] });
            let filter: SubscriptionFilter = serde_json::from_value(filter).unwrap();
            let mut subscription = client.listen(filter).await.unwrap();
            call(&client, "test_trigger_resource_update", "{}").await;
            let heard = tokio::time::timeout(PATIENCE, subscription.next()).await.expect("an update in time");
            assert!(heard.unwrap().is_some(), "{case}");
        }
    }

    let n_before: u64 = call(&client, "x_cancelled", "{}").await.parse().unwrap();
    person.progress.lock().unwrap().clear();
    let wait = ClientRequest::CallToolRequest(Request::new(CallToolRequestParams::new("x_wait")));
    let waiting = client.send_cancellable_request(wait, PeerRequestOptions::no_options()).await.unwrap();
    until(&format!("{case}: the call runs"), async || !person.progress.lock().unwrap().is_empty()).await;
    waiting.cancel(None).await.unwrap();
    until(&format!("{case}: the cancel reaches the server"), async || {
        call(&client, "x_cancelled", "{}").await.parse::<u64>().unwrap() > n_before
    })
    .await;
    client.cancel().await.unwrap();
}

#[tokio::test]
async fn an_independent_client_of_either_era_does_everything_with_a_server_of_either() {
    for eras in [Eras::Legacy, Eras::Modern] {
        let server = Reference::start(eras).await;
        let url = server.url().parse().unwrap();
        let target = Target::Http { url, headers: Vec::new(), wire: Wire::Auto };
        let gateway = gateway().upstream(UpstreamConfig::new("reference", target)).start().await;
        for era in Era::BOTH {
            every_step(&gateway, era, &format!("{era:?} client, {eras:?} server")).await;
        }
    }
}

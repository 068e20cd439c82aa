//! `rmcp`, the official Rust SDK, in front of the gateway and behind it.

use std::sync::Arc;

use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mpe_engine::{Target, UpstreamConfig};
use mpe_tests::{Era, gateway, server, tool};
use mpe_transport::Wire;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientConfig, ContentBlock, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{ClientInitializeError, RequestContext, RoleServer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient, ServerHandler};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An introduced client.
pub(crate) type Client = RunningService<RoleClient, ClientConfig>;

/// An `rmcp` client of that URL, introduced.
pub(crate) async fn client(url: &str, era: Era) -> Client {
    try_client(url, era).await.unwrap_or_else(|error| panic!("rmcp as a {era:?} client: {error}"))
}

/// An `rmcp` client of that URL, if it can be introduced.
pub(crate) async fn try_client(url: &str, era: Era) -> Result<Client, ClientInitializeError> {
    let transport = StreamableHttpClientTransport::with_client(
        plain_http(),
        StreamableHttpClientTransportConfig::with_uri(url.to_owned()),
    );
    ClientConfig::default().serve_with_lifecycle(transport, lifecycle(era)).await
}

/// How a client of that era introduces itself.
pub(crate) fn lifecycle(era: Era) -> ClientLifecycleMode {
    match era {
        Era::Legacy => ClientLifecycleMode::Initialize,
        Era::Modern => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
    }
}

/// A client for plain HTTP, whichever features of `reqwest` the rest of the workspace switches on: with TLS compiled
/// in it would look for a process-wide provider, which nothing here installs.
pub(crate) fn plain_http() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).pool_max_idle_per_host(0).build().unwrap()
}

/// A JSON object.
pub(crate) fn object(text: &str) -> JsonObject {
    serde_json::from_str(text).unwrap()
}

/// A server written with `rmcp`: one tool that answers, one that fails.
#[derive(Clone)]
struct Weather;

impl ServerHandler for Weather {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema =
            json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
        let schema: Arc<JsonObject> = Arc::new(schema.as_object().unwrap().clone());
        Ok(ListToolsResult::with_all_items(vec![
            Tool::new("forecast", "Tomorrow's weather.", Arc::clone(&schema)),
            Tool::new("storm", "Always fails.", schema),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let city = request
            .arguments
            .as_ref()
            .and_then(|arguments| arguments.get("city"))
            .cloned()
            .unwrap_or_default();
        match request.name.as_ref() {
            "forecast" => Ok(CallToolResult::structured(json!({ "city": city, "celsius": 12 })).into()),
            "storm" => Ok(CallToolResult::error(vec![ContentBlock::text("blown away")]).into()),
            _ => Err(ErrorData::invalid_params("unknown tool", None)),
        }
    }
}

/// Serves [`Weather`] until the set is dropped; gives its URL.
async fn rmcp_server(tasks: &mut JoinSet<()>, json_response: bool) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = StreamableHttpServerConfig::default().with_json_response(json_response);
    let service: StreamableHttpService<Weather, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Weather), Arc::default(), config);
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let service = service.clone();
                async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
            });
            connections.spawn(async move {
                // However a connection ends, the test sees it in its answers.
                let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    format!("http://{address}/mcp")
}

#[tokio::test]
async fn an_independent_client_lists_and_calls_through_the_gateway_in_both_eras() {
    let server = server().tool(tool("echo")).tool(tool("broken").fails("on purpose")).start().await;
    let gateway = gateway().server("s", &server).start().await;
    for era in Era::BOTH {
        let client = client(&gateway.url("/mcp"), era).await;
        let tools = client.list_all_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["echo", "broken"], "{era:?}");

        let arguments = object(r#"{"text":"grüezi","n":12345678901234567}"#);
        let call = CallToolRequestParams::new("echo").with_arguments(arguments.clone());
        let result = client.call_tool(call).await.unwrap();
        assert_eq!(result.structured_content, Some(arguments.into()), "{era:?}");

        let result = client.call_tool(CallToolRequestParams::new("broken")).await.unwrap();
        assert_eq!(result.is_error, Some(true), "{era:?}");

        client.call_tool(CallToolRequestParams::new("nowhere")).await.expect_err("no such tool");
        client.cancel().await.unwrap();
    }
}

#[tokio::test]
async fn an_independent_server_is_listed_and_called_behind_the_gateway() {
    let mut tasks = JoinSet::new();
    for (json_response, wire) in
        [(true, Wire::H2c), (false, Wire::H2c), (true, Wire::Http1), (false, Wire::Http1)]
    {
        let url = rmcp_server(&mut tasks, json_response).await;
        let target = Target::Http { url: url.parse().unwrap(), headers: Vec::new(), wire };
        let gateway = gateway().upstream(UpstreamConfig::new("weather", target)).start().await;
        assert_eq!(gateway.tools(), ["forecast", "storm"], "{wire:?}, JSON {json_response}");
        for era in Era::BOTH {
            let client = gateway.mcp(era).await;
            let result = client.call("forecast", r#"{"city":"Bern"}"#).await.unwrap();
            let case = format!("{era:?} over {wire:?}, JSON {json_response}");
            assert_eq!(result["structuredContent"], json!({ "city": "Bern", "celsius": 12 }), "{case}");
            let result = client.call("storm", "{}").await.unwrap();
            assert_eq!(result["isError"], true, "{case}");
            assert_eq!(result["content"][0]["text"], "blown away", "{case}");
        }
    }
}

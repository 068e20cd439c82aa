//! A server written with `rmcp`, the official Rust SDK, for `cargo xtask peers`: `rmcp-server PORT` serves Streamable
//! HTTP in both eras, `rmcp-server` without a port its pipes. Its answers are always the same.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use anyhow::Context as _;
use http::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, ServiceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Weather;

type Asked = RequestContext<RoleServer>;

/// What the SDK makes of a value as the specification spells it.
fn spelled<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn city(schema: Value) -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": schema}, "required": ["city"]})
}

impl ServerHandler for Weather {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_prompts().enable_resources().build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Asked,
    ) -> Result<ListToolsResult, ErrorData> {
        let nothing = json!({"type": "object"});
        spelled(json!({"tools": [
            {"name": "forecast", "title": "Forecast", "description": "Tomorrow's weather.",
                "inputSchema": city(json!({"type": "integer", "minimum": 1})),
                "outputSchema": {"type": "object", "properties": {"city": {"type": "string"}, "celsius": {"type": "number"}},
                    "required": ["city", "celsius"]},
                "annotations": {"readOnlyHint": true, "openWorldHint": false},
                "_meta": {"example.com/unit": "C"}},
            {"name": "storm", "description": "Always fails.", "inputSchema": city(json!({}))},
            {"name": "refuse", "description": "Refuses with data.", "inputSchema": city(json!({}))},
            {"name": "blocks", "description": "One block of each kind.", "inputSchema": nothing},
            {"name": "precise", "description": "Gives a number back.", "inputSchema": nothing}
        ]}))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: Asked,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| request.arguments.as_ref().and_then(|all| all.get(name)).cloned();
        let city = || argument("city").ok_or_else(|| ErrorData::invalid_params("`city` is missing", None));
        let text = |text: &str| json!({"type": "text", "text": text});
        let result = match request.name.as_ref() {
            "forecast" => {
                json!({"content": [text("{}")], "structuredContent": {"city": city()?, "celsius": 12.50},
                "_meta": {"example.com/station": 7}})
            }
            "storm" => json!({"content": [text("blown away")], "isError": true}),
            "refuse" => {
                let data = json!({"city": city()?, "why": ["too", {"far": null}]});
                return Err(ErrorData::invalid_request("no forecast from here", Some(data)));
            }
            "blocks" => json!({"content": [
                {"type": "text", "text": "ünï", "annotations": {"audience": ["user"], "priority": 0.25}},
                {"type": "image", "data": "AAEC", "mimeType": "image/png"},
                {"type": "audio", "data": "AAEC", "mimeType": "audio/wav"},
                {"type": "resource", "resource": {"uri": "weather://Bern", "mimeType": "text/plain", "text": "sun"}},
                {"type": "resource_link", "uri": "weather://Chur", "name": "Chur", "size": 3}
            ]}),
            "precise" => json!({"content": [], "structuredContent": {"n": argument("n")}}),
            _ => return Err(ErrorData::invalid_params("unknown tool", Some(json!({"name": request.name})))),
        };
        spelled::<CallToolResult>(result).map(Into::into)
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Asked,
    ) -> Result<ListPromptsResult, ErrorData> {
        spelled(json!({"prompts": [{"name": "brief", "title": "Brief", "description": "A brief for a city.",
            "arguments": [{"name": "city", "description": "Which.", "required": true}]}]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: Asked,
    ) -> Result<GetPromptResponse, ErrorData> {
        let city = request.arguments.as_ref().and_then(|arguments| arguments.get("city"));
        let city = city.ok_or_else(|| ErrorData::invalid_params("`city` is missing", None))?;
        spelled::<GetPromptResult>(json!({"description": "A brief", "messages": [
            {"role": "user", "content": {"type": "text", "text": format!("Brief me on {city}.")}},
            {"role": "assistant", "content": {"type": "text", "text": "Sun."}}
        ]}))
        .map(Into::into)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Asked,
    ) -> Result<ListResourcesResult, ErrorData> {
        spelled(json!({"resources": [
            {"uri": "weather://Bern", "name": "Bern", "title": "Bern", "mimeType": "text/plain", "size": 3},
            {"uri": "weather://map", "name": "map", "mimeType": "image/png"}
        ]}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: Asked,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        spelled(
            json!({"resourceTemplates": [{"uriTemplate": "weather://{city}", "name": "city", "mimeType": "text/plain"}]}),
        )
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Asked,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = &request.uri;
        let contents = match uri.strip_prefix("weather://") {
            Some("map") => json!({"uri": uri, "mimeType": "image/png", "blob": "AAECAw=="}),
            Some(city) => json!({"uri": uri, "mimeType": "text/plain", "text": format!("{city}: sun")}),
            None => return Err(ErrorData::resource_not_found("no such place", Some(json!({"uri": uri})))),
        };
        spelled::<ReadResourceResult>(json!({"contents": [contents]})).map(Into::into)
    }
}

async fn serve_http(port: u16) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let config = StreamableHttpServerConfig::default();
    let service: StreamableHttpService<Weather, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Weather), Arc::default(), config);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let service = service.clone();
            async move { Ok::<_, std::convert::Infallible>(service.handle(request).await) }
        });
        tokio::spawn(async move {
            // How a connection ends is the client's business.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Our standard input and output. Threads of their own move the bytes, as Tokio's would, whose feature for that nothing
/// else in the workspace needs.
fn pipes() -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (mut said, mut heard) = tokio::io::split(theirs);
    let runtime = tokio::runtime::Handle::current();
    let input = runtime.clone();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = [0; 4096];
        // An end and an error are the same to the server: nothing more comes.
        while let Ok(n_read @ 1..) = stdin.read(&mut chunk) {
            if input.block_on(heard.write_all(&chunk[..n_read])).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    std::thread::spawn(move || {
        let mut stdout = std::io::stdout().lock();
        let mut chunk = [0; 4096];
        while let Ok(n_read @ 1..) = runtime.block_on(said.read(&mut chunk)) {
            if stdout.write_all(&chunk[..n_read]).and_then(|()| stdout.flush()).is_err() {
                return;
            }
        }
    });
    tokio::io::split(ours)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1) {
        Some(port) => serve_http(port.parse().context("the port is no number")?).await,
        None => {
            let running = Weather.serve(pipes()).await?;
            running.waiting().await?;
            Ok(())
        }
    }
}

//! `openapi` and `graphql`: what the faces say of themselves.

use mcp_proxy_engine::McpProxyEngine;
use mcp_proxy_engine::schema::graphql::GraphqlSchema;

use super::args::{DocumentFormat, GraphqlArgs, LogArgs, OpenapiArgs};
use super::exit::{Exit, Failure};
use super::{output, source};

pub(crate) async fn openapi(args: OpenapiArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    source::snapshot(&engine, args.endpoint.as_deref())?;
    let document = openapi_document(&engine, args.endpoint.as_deref(), args.format, &args.version).await;
    engine.close().await;
    output::result(&document?)?;
    Ok(Exit::Done)
}

pub(crate) async fn graphql(args: GraphqlArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    let sdl = graphql_sdl(&engine, args.endpoint.as_deref());
    engine.close().await;
    output::result(&sdl?)?;
    Ok(Exit::Done)
}

/// The document as the HTTP face serves it.
///
/// # Errors
/// The face refuses it.
pub(crate) async fn openapi_document(
    engine: &McpProxyEngine,
    endpoint: Option<&str>,
    format: DocumentFormat,
    version: &str,
) -> Result<String, Failure> {
    let extension = match format {
        DocumentFormat::Json => "json",
        DocumentFormat::Yaml => "yaml",
    };
    let response = engine.dispatch(endpoint, &format!("openapi.{extension}?version={version}"), None).await;
    let body = String::from_utf8_lossy(response.body()).into_owned();
    if !response.status().is_success() {
        return Err(Failure::new(Exit::CallFailed, format!("the document is not to be had: {body}")));
    }
    Ok(body)
}

/// The schema of an endpoint's catalogue.
///
/// # Errors
/// A tool that cannot be made a field.
pub(crate) fn graphql_sdl(engine: &McpProxyEngine, endpoint: Option<&str>) -> Result<String, Failure> {
    let snapshot = source::snapshot(engine, endpoint)?;
    let schema =
        GraphqlSchema::build(snapshot.catalogue.tools().iter().map(|tool| &tool.tool)).map_err(|error| {
            Failure::new(Exit::CallFailed, format!("the GraphQL schema cannot be built: {error}"))
        })?;
    Ok(schema.sdl())
}

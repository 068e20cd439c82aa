//! Everything the faces show of one catalogue, computed before the catalogue is published and swapped with it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use mpe_engine::{Catalogue, Derive, Derived, Snapshot, UpstreamState};
use mpe_mcp_protocol::header::MirroredParams;
use mpe_schema::functions::{LossKind, Lowered, Vendor};
use mpe_schema::graphql::GraphqlSchema;
use mpe_schema::openapi::OpenApiVersion;
use mpe_schema::{Operations, functions, openapi};
use serde_json::{Value, json};

use crate::GatewayConfig;
use crate::config::{EndpointView, Looks};
use crate::document::Document;
use crate::mcp::listing::Listings;
use crate::router::Routes;
use crate::seal::Sealer;

/// What the faces show of one catalogue.
pub(crate) struct View {
    pub(crate) operations: Operations,
    pub(crate) routes: Routes,
    pub(crate) lists: Listings,
    mirrored: HashMap<String, MirroredParams>,
    endpoint: EndpointView,
    catalogue: Arc<Catalogue>,
    // Documents are large and rarely asked for: each is made on its first use, from this one catalogue, and kept.
    documents: [OnceLock<Document>; 4],
    functions: [OnceLock<Functions>; Vendor::ALL.len()],
    graphql: OnceLock<Result<GraphqlSchema, String>>,
    sdl: OnceLock<Document>,
}

/// The tools in a vendor's words.
struct Functions {
    array: Document,
    report: Document,
    lowered: Lowered,
}

/// How a document is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// Makes a [`View`] of every catalogue.
pub(crate) struct FaceDerive {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) looks: Arc<ArcSwap<Looks>>,
    pub(crate) sealer: Arc<Sealer>,
}

/// The view that was published with this snapshot.
pub(crate) fn view_of(snapshot: &Snapshot) -> Option<Arc<View>> {
    Arc::clone(&snapshot.derived).downcast::<View>().ok()
}

impl Derive for FaceDerive {
    fn derive(&self, catalogue: &Arc<Catalogue>) -> Derived {
        let endpoint = self.looks.load().of(catalogue.endpoint());
        Arc::new(View::of(catalogue, endpoint, &self.config, &self.sealer))
    }
}

impl View {
    fn of(
        catalogue: &Arc<Catalogue>,
        endpoint: EndpointView,
        config: &GatewayConfig,
        sealer: &Sealer,
    ) -> Self {
        let tools = catalogue.tools().iter().map(|tool| (&tool.tool, tool.upstream.as_str()));
        let operations = Operations::of(tools, &endpoint.mappings);
        // Until every upstream has been asked, a mapping may name a tool that is only not known yet.
        let is_early = catalogue.upstreams().iter().any(|up| up.state == UpstreamState::Discovering);
        for problem in operations.problems.iter().filter(|_| !is_early) {
            tracing::warn!(endpoint = %catalogue.endpoint(), %problem, "mapping left out");
        }
        let routes = Routes::of(&operations, catalogue.endpoint());
        let lists = Listings::of(catalogue, config.page_size, sealer);
        // An annotation that breaks a rule is the upstream's to answer for; here it mirrors nothing.
        let mirrored = catalogue
            .tools()
            .iter()
            .filter_map(|tool| {
                let params = MirroredParams::of(tool.tool.input_schema()).ok()?;
                (!params.is_empty()).then(|| (tool.tool.name().to_owned(), params))
            })
            .collect();
        Self {
            operations,
            routes,
            lists,
            mirrored,
            endpoint,
            catalogue: Arc::clone(catalogue),
            documents: Default::default(),
            functions: Default::default(),
            graphql: OnceLock::new(),
            sdl: OnceLock::new(),
        }
    }

    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// The OpenAPI document.
    pub(crate) fn openapi(&self, version: OpenApiVersion, format: Format) -> &Document {
        let index = match (version, format) {
            (OpenApiVersion::V3_1, Format::Json) => 0,
            (OpenApiVersion::V3_1, Format::Yaml) => 1,
            (OpenApiVersion::V3_0, Format::Json) => 2,
            (OpenApiVersion::V3_0, Format::Yaml) => 3,
        };
        self.documents[index].get_or_init(|| {
            let document = openapi::document(&self.endpoint.info, &self.operations, version);
            match format {
                Format::Json => Document::of("application/json", document.to_string()),
                Format::Yaml => Document::of("application/yaml", openapi::to_yaml(&document)),
            }
        })
    }

    /// The function-calling array in a vendor's shape.
    pub(crate) fn functions(&self, vendor: Vendor) -> &Document {
        &self.in_words_of(vendor).array
    }

    /// What that shape could not say, as an array.
    pub(crate) fn losses(&self, vendor: Vendor) -> &Document {
        &self.in_words_of(vendor).report
    }

    /// The way back from a model's call to the tool's.
    pub(crate) fn lowered(&self, vendor: Vendor) -> &Lowered {
        &self.in_words_of(vendor).lowered
    }

    fn in_words_of(&self, vendor: Vendor) -> &Functions {
        let index = Vendor::ALL.iter().position(|listed| *listed == vendor).expect("every vendor is listed");
        self.functions[index].get_or_init(|| {
            Functions::of(functions::lower(self.catalogue.tools().iter().map(|tool| &tool.tool), vendor))
        })
    }

    /// The executable GraphQL schema, or why these tools have none.
    pub(crate) fn graphql(&self) -> Result<&GraphqlSchema, &str> {
        let built = self.graphql.get_or_init(|| {
            GraphqlSchema::build(self.catalogue.tools().iter().map(|tool| &tool.tool))
                .map_err(|error| error.to_string())
        });
        built.as_ref().map_err(String::as_str)
    }

    /// That schema in its own language.
    pub(crate) fn sdl(&self) -> Result<&Document, &str> {
        let schema = self.graphql()?;
        Ok(self.sdl.get_or_init(|| Document::of("text/plain; charset=utf-8", schema.sdl())))
    }

    /// The URLs at which the document says it is served, with their descriptions.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &(String, Option<String>)> {
        self.endpoint.info.servers.iter()
    }

    /// The arguments of a tool that headers repeat.
    pub(crate) fn mirrored(&self, tool: &str) -> Option<&MirroredParams> {
        self.mirrored.get(tool)
    }
}

impl Functions {
    fn of(lowered: Lowered) -> Self {
        let kind = |kind| match kind {
            LossKind::Dropped => "dropped",
            LossKind::Narrowed => "narrowed",
            LossKind::Reshaped => "reshaped",
            LossKind::Text => "text",
        };
        let rows = lowered.report.iter().map(|loss| {
            json!({"tool": loss.tool, "pointer": loss.pointer, "kind": kind(loss.kind), "message": loss.message})
        });
        let report = Document::of("application/json", Value::Array(rows.collect()).to_string());
        Self { array: Document::of("application/json", lowered.array.to_string()), report, lowered }
    }
}

//! Method and path → face. The fixed faces are the same for every endpoint; mapped paths come from its catalogue.

use std::sync::LazyLock;

use http::Method;
use matchit::Router;
use mpe_engine::EndpointId;
use mpe_schema::{Operations, Segment};

use crate::docs::Asset;
use crate::percent;

/// A face that every endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Face {
    Batch,
    /// The documentation page or one of its files.
    Docs(Asset),
    DocsSlash,
    Graphql,
    GraphqlSdl,
    Livez,
    Mcp,
    McpMessages,
    McpSse,
    Metrics,
    OpenApiJson,
    OpenApiYaml,
    Performance,
    Plan,
    Readyz,
    Tool,
    Tools,
}

/// Where a fixed path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) face: Face,
    /// The tool's name, decoded, where the path names one.
    pub(crate) tool: Option<String>,
}

/// The endpoint a path names, and the path within it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scoped<'a> {
    pub(crate) endpoint: EndpointId,
    pub(crate) path: &'a str,
}

/// The mapped paths of one catalogue.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<Vec<usize>>,
}

/// A mapped path that fits: the operations served there, and the path's variables as they stand in it: a comma that is
/// encoded belongs to a value, another one stands between two.
#[derive(Debug)]
pub(crate) struct Mapped<'a> {
    pub(crate) operations: &'a [usize],
    pub(crate) variables: Vec<(String, String)>,
}

impl Face {
    /// The methods served there.
    pub(crate) fn methods(self) -> &'static [Method] {
        match self {
            Self::Batch | Self::McpMessages | Self::Plan | Self::Tool => &[Method::POST],
            Self::McpSse => &[Method::GET],
            Self::Graphql => &[Method::GET, Method::POST],
            Self::Mcp => &[Method::GET, Method::POST, Method::DELETE],
            Self::Docs(_)
            | Self::DocsSlash
            | Self::GraphqlSdl
            | Self::Livez
            | Self::Metrics
            | Self::OpenApiJson
            | Self::OpenApiYaml
            | Self::Performance
            | Self::Readyz
            | Self::Tools => &[Method::GET, Method::HEAD],
        }
    }

    /// Whether it tells of the process itself, and so answers at once whatever the upstreams do.
    pub(crate) fn is_admin(self) -> bool {
        matches!(self, Self::Livez | Self::Metrics | Self::Performance | Self::Readyz)
    }

    /// The name in metrics and logs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Batch | Self::Plan => "batch",
            Self::Graphql | Self::GraphqlSdl => "graphql",
            Self::Livez | Self::Readyz | Self::Metrics | Self::Performance => "admin",
            Self::Mcp | Self::McpMessages | Self::McpSse => "mcp",
            Self::Docs(_) | Self::DocsSlash | Self::OpenApiJson | Self::OpenApiYaml | Self::Tools => {
                "documents"
            }
            Self::Tool => "rest",
        }
    }
}

/// Takes `/endpoints/{endpoint_id}` off the path; without it, the default endpoint is meant. `None`: the name in it
/// cannot be decoded.
pub(crate) fn scope<'a>(path: &'a str, default: &EndpointId) -> Option<Scoped<'a>> {
    let Some(rest) = path.strip_prefix("/endpoints/") else {
        return Some(Scoped { endpoint: default.clone(), path });
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, path) = rest.split_at(end);
    if name.is_empty() {
        return None;
    }
    Some(Scoped { endpoint: EndpointId::new(percent::decode(name)?), path })
}

/// The fixed face at `path`, if there is one.
pub(crate) fn fixed(path: &str) -> Option<Fixed> {
    static ROUTER: LazyLock<Router<Face>> = LazyLock::new(|| {
        let mut router = Router::new();
        for (path, face) in [
            ("/batch", Face::Batch),
            ("/docs", Face::Docs(Asset::Page)),
            ("/docs/", Face::DocsSlash),
            ("/docs/licenses.txt", Face::Docs(Asset::Licenses)),
            ("/docs/page.css", Face::Docs(Asset::Style)),
            ("/docs/page.js", Face::Docs(Asset::Script)),
            ("/docs/swagger-ui-bundle.js", Face::Docs(Asset::Viewer)),
            ("/docs/swagger-ui.css", Face::Docs(Asset::ViewerStyle)),
            ("/graphql", Face::Graphql),
            ("/livez", Face::Livez),
            ("/mcp", Face::Mcp),
            ("/messages", Face::McpMessages),
            ("/metrics", Face::Metrics),
            ("/openapi.json", Face::OpenApiJson),
            ("/openapi.yaml", Face::OpenApiYaml),
            ("/performance", Face::Performance),
            ("/plan", Face::Plan),
            ("/readyz", Face::Readyz),
            ("/schema.graphql", Face::GraphqlSdl),
            ("/sse", Face::McpSse),
            ("/tools", Face::Tools),
            ("/tools/{tool}", Face::Tool),
        ] {
            router.insert(path, face).expect("the fixed paths do not collide");
        }
        router
    });
    let found = ROUTER.at(path).ok()?;
    let tool = match found.params.get("tool") {
        Some(name) => Some(percent::decode(name)?),
        None => None,
    };
    Some(Fixed { face: *found.value, tool })
}

impl Routes {
    /// The mapped operations' paths. One that a fixed face or an earlier mapping occupies is left out and logged.
    pub(crate) fn of(operations: &Operations, endpoint: &EndpointId) -> Self {
        let mut router: Router<Vec<usize>> = Router::new();
        for (index, operation) in operations.operations.iter().enumerate().filter(|(_, op)| op.mapped) {
            let route = route(operation.path.segments());
            // One path may serve a GET and a POST; those share a node.
            if let Some(shared) = existing(&mut router, &route, operations, index) {
                shared.push(index);
                continue;
            }
            let occupied = fixed(&route).is_some();
            if occupied || router.insert(route.clone(), vec![index]).is_err() {
                tracing::warn!(%endpoint, path = route, tool = operation.tool.name(), "mapped path is occupied");
            }
        }
        Self { router }
    }

    /// The mapped path that fits, if one does. `None` also when a variable cannot be decoded.
    pub(crate) fn at(&self, path: &str) -> Option<Mapped<'_>> {
        let found = self.router.at(path).ok()?;
        let variables = found
            .params
            .iter()
            // What cannot be decoded leads nowhere.
            .map(|(name, value)| percent::decode(value).map(|_| (name.to_owned(), value.to_owned())))
            .collect::<Option<Vec<_>>>()?;
        Some(Mapped { operations: found.value, variables })
    }
}

/// The node of an operation with the very same template, if it is in the router already.
fn existing<'r>(
    router: &'r mut Router<Vec<usize>>,
    route: &str,
    operations: &Operations,
    index: usize,
) -> Option<&'r mut Vec<usize>> {
    let template = &operations.operations[index].path;
    let found = router.at_mut(route).ok()?.value;
    (operations.operations[found[0]].path == *template).then_some(found)
}

/// A template as the router spells it.
fn route(segments: &[Segment]) -> String {
    let mut route = String::new();
    for segment in segments {
        route.push('/');
        match segment {
            Segment::Literal(text) => route.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Segment::Variable(name) => {
                route.push('{');
                route.push_str(name);
                route.push('}');
            }
        }
    }
    route
}

#[cfg(test)]
mod tests {
    use mpe_engine::EndpointId;

    use super::{Face, Fixed, fixed, scope};

    #[test]
    fn the_root_is_the_default_endpoint() {
        let scoped = scope("/openapi.json", &EndpointId::new("d")).unwrap();
        assert_eq!(scoped.endpoint, EndpointId::new("d"));
        assert_eq!(scoped.path, "/openapi.json");
    }

    #[test]
    fn an_endpoint_prefix_names_the_tenant() {
        let scoped = scope("/endpoints/a%20b/mcp", &EndpointId::default()).unwrap();
        assert_eq!(scoped.endpoint, EndpointId::new("a b"));
        assert_eq!(scoped.path, "/mcp");
        assert_eq!(scope("/endpoints//mcp", &EndpointId::default()), None);
    }

    #[test]
    fn a_tool_path_yields_the_decoded_name() {
        let found = fixed("/tools/get%2Fuser").unwrap();
        assert_eq!(found, Fixed { face: Face::Tool, tool: Some("get/user".to_owned()) });
    }

    #[test]
    fn a_path_nobody_serves_leads_nowhere() {
        assert_eq!(fixed("/nothing"), None);
        assert_eq!(fixed("/tools/a/b"), None);
    }
}

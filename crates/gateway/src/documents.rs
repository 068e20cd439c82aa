//! Documents of the catalogue: OpenAPI and function-calling arrays.

use mpe_schema::functions::Vendor;
use mpe_schema::openapi::OpenApiVersion;

use crate::Body;
use crate::problem::{Problem, ProblemType};
use crate::router::Face;
use crate::service::Inbound;
use crate::view::Format;

/// `/openapi.json` and `/openapi.yaml`; `?version=3.0` for readers that do not know 3.1.
pub(crate) fn openapi(inbound: &Inbound, face: Face) -> http::Response<Body> {
    let version = match inbound.query_value("version").as_deref() {
        None | Some("3.1" | "3.1.0" | "3.1.1") => OpenApiVersion::V3_1,
        Some("3.0" | "3.0.3") => OpenApiVersion::V3_0,
        Some(other) => {
            let detail = format!("there is no OpenAPI version `{other}` here; 3.0 and 3.1 are");
            return Problem::new(ProblemType::BadRequest, detail).into_response();
        }
    };
    let format = match face {
        Face::OpenApiYaml => Format::Yaml,
        _ => Format::Json,
    };
    inbound.view.openapi(version, format).response(&inbound.parts.headers)
}

/// `/tools?format=…`; with `&report=true`, what that format could not say.
pub(crate) fn tools(inbound: &Inbound) -> http::Response<Body> {
    let format = inbound.query_value("format");
    let Some(vendor) = format.as_deref().map_or(Some(Vendor::Mcp), Vendor::from_name) else {
        let names = Vendor::ALL.map(Vendor::name).join(", ");
        let detail = format!("there is no format `{}`; there are: {names}", format.unwrap_or_default());
        return Problem::new(ProblemType::BadRequest, detail).into_response();
    };
    let wants_report =
        inbound.query_value("report").is_some_and(|value| matches!(value.as_str(), "" | "1" | "true"));
    let view = &inbound.view;
    let document = if wants_report { view.losses(vendor) } else { view.functions(vendor) };
    document.response(&inbound.parts.headers)
}

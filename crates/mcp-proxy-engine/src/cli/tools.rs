//! `tools`: what there is to call.

use mcp_proxy_engine::engine::{Catalogue, CatalogueTool};
use mcp_proxy_engine::schema::functions::{self, Vendor};

use super::args::{LogArgs, ToolsArgs, VendorArg};
use super::exit::{Exit, Failure};
use super::{output, source};

/// Characters of a description in the table.
const DESCRIPTION: usize = 72;

pub(crate) async fn run(args: ToolsArgs, log: &LogArgs) -> Result<Exit, Failure> {
    let engine = source::start(&args.source, log).await?;
    let snapshot = source::snapshot(&engine, args.endpoint.as_deref())?;
    let catalogue = &snapshot.catalogue;
    let vendor = match (args.json, args.format) {
        (_, Some(vendor)) => Some(vendor.vendor()),
        (true, None) => Some(Vendor::Mcp),
        (false, None) => None,
    };
    let text = match vendor {
        Some(vendor) => {
            output::json(&functions::array(catalogue.tools().iter().map(|tool| &tool.tool), vendor))
        }
        None => table(catalogue),
    };
    engine.close().await;
    output::result(&text)?;
    Ok(Exit::Done)
}

impl VendorArg {
    fn vendor(self) -> Vendor {
        match self {
            Self::Anthropic => Vendor::Anthropic,
            Self::Bedrock => Vendor::Bedrock,
            Self::Gemini => Vendor::Gemini,
            Self::Mcp => Vendor::Mcp,
            Self::Ollama => Vendor::Ollama,
            Self::Openai => Vendor::OpenAi,
            Self::OpenaiStrict => Vendor::OpenAiStrict,
        }
    }
}

/// Name, server, what it may do, and the first line of its description.
fn table(catalogue: &Catalogue) -> String {
    let rows: Vec<[String; 4]> = catalogue.tools().iter().map(row).collect();
    let head = ["TOOL", "SERVER", "EFFECT", "DESCRIPTION"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain(std::iter::once(&head)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let line = format!(
            "{:<a$}  {:<b$}  {:<c$}  {}",
            row[0],
            row[1],
            row[2],
            row[3],
            a = widths[0],
            b = widths[1],
            c = widths[2]
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(tool: &CatalogueTool) -> [String; 4] {
    let annotations = tool.tool.annotations();
    let effect = if annotations.read_only {
        "reads"
    } else if annotations.destructive {
        "may destroy"
    } else {
        "writes"
    };
    let description = tool.tool.description().or(tool.tool.title()).unwrap_or_default();
    let first = description.lines().next().unwrap_or_default();
    let mut short: String = first.chars().take(DESCRIPTION).collect();
    if short.len() < first.len() {
        short.push('…');
    }
    [tool.tool.name().to_owned(), tool.upstream.to_string(), effect.to_owned(), short]
}

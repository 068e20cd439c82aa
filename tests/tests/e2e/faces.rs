//! One tool, every face: whoever asks, in whatever way, gets the same answer.

use futures_util::future::BoxFuture;
use mpe_lambda_adapter::{Answer, Handler, Options};
use mpe_tests::{Era, RunningGateway, Script, gateway, server, tool};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// What `get_user` answers for user 7; a round trip through a JSON tree would change the spelling of the score.
const ADA: &str = r#"{"user_id":"7","name":"Ada","score":1.50,"big":12345678901234567890}"#;

/// Asks for user 7 in some way and gives the JSON that stands for the answer.
type Ask = for<'a> fn(&'a RunningGateway) -> BoxFuture<'a, String>;

/// Every way there is.
const FACES: &[(&str, Ask)] = &[
    ("MCP, modern", |gateway| Box::pin(over_mcp(gateway, Era::Modern))),
    ("MCP, legacy", |gateway| Box::pin(over_mcp(gateway, Era::Legacy))),
    ("REST", |gateway| {
        Box::pin(async { body_of(gateway.http().post("/tools/get_user", r#"{"user_id":"7"}"#).await) })
    }),
    ("mapped path", |gateway| Box::pin(async { body_of(gateway.http().get("/get_user/7").await) })),
    ("batch", |gateway| Box::pin(over_batch(gateway))),
    ("GraphQL", |gateway| Box::pin(over_graphql(gateway))),
    ("Lambda, Function URL", |gateway| Box::pin(over_function_url(gateway))),
    ("Lambda, direct", |gateway| {
        Box::pin(async {
            lambda(gateway, json!({ "tool": "get_user", "arguments": { "user_id": "7" } })).await
        })
    }),
    ("Lambda, path of the Python product", |gateway| {
        Box::pin(async { lambda(gateway, json!({ "path": "get_user/7" })).await })
    }),
];

fn get_user() -> Script {
    tool("get_user")
        .read_only()
        .input(json!({
            "type": "object",
            "properties": { "user_id": { "type": "string" } },
            "required": ["user_id"],
        }))
        .answers(|arguments| {
            let asked: Value = serde_json::from_str(arguments).unwrap();
            assert_eq!(asked, json!({ "user_id": "7" }), "every face sends the same arguments");
            format!(r#"{{"content":[{{"type":"text","text":"Ada"}}],"structuredContent":{ADA}}}"#)
        })
}

/// A gateway with `get_user` mapped as the Python product's README does.
async fn mapped_gateway(server: &mpe_tests::Server) -> RunningGateway {
    gateway().mapping("/get_user/{user_id}").server("users", server).start().await
}

fn body_of(answer: mpe_tests::Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text().to_owned()
}

/// The bytes of one member of a JSON object.
fn member(object: &str, name: &str) -> String {
    let members: std::collections::BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(object).unwrap_or_else(|error| panic!("{error}: {object}"));
    members.get(name).unwrap_or_else(|| panic!("no {name}: {object}")).get().to_owned()
}

async fn over_mcp(gateway: &RunningGateway, era: Era) -> String {
    let result = gateway.mcp(era).await.call_raw("get_user", r#"{"user_id":"7"}"#).await;
    member(&result, "structuredContent")
}

async fn over_batch(gateway: &RunningGateway) -> String {
    let calls = r#"[{"tool":"get_user","arguments":{"user_id":"7"}}]"#;
    let answer = body_of(gateway.http().post("/batch", calls).await);
    let items: Vec<Box<RawValue>> = serde_json::from_str(&answer).unwrap();
    member(items[0].get(), "result")
}

async fn over_graphql(gateway: &RunningGateway) -> String {
    let query =
        json!({ "query": r#"query($id: String!) { get_user(user_id: $id) }"#, "variables": { "id": "7" } });
    let answer = body_of(gateway.http().post("/graphql", query.to_string()).await);
    member(&member(&answer, "data"), "get_user")
}

async fn over_function_url(gateway: &RunningGateway) -> String {
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/tools/get_user",
        "rawQueryString": "",
        "headers": { "content-type": "application/json", "host": "abc.lambda-url.eu-central-1.on.aws" },
        "requestContext": {
            "http": { "method": "POST", "path": "/tools/get_user", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1" },
            "requestId": "1",
            "stage": "$default",
        },
        "body": r#"{"user_id":"7"}"#,
        "isBase64Encoded": false,
    });
    let reply: Value = serde_json::from_str(&lambda(gateway, event).await).unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply}");
    reply["body"].as_str().unwrap().to_owned()
}

async fn lambda(gateway: &RunningGateway, event: Value) -> String {
    let handler = Handler::new(gateway.gateway().clone(), Options::default());
    let event = RawValue::from_string(event.to_string()).unwrap();
    match handler.handle(&event, None).await.unwrap() {
        Answer::Buffered(reply) => reply.get().to_owned(),
        Answer::Streaming { .. } => panic!("streaming is off"),
    }
}

#[tokio::test]
async fn every_face_gives_the_same_answer_byte_for_byte() {
    for legacy in [false, true] {
        let mut builder = server().tool(get_user());
        if legacy {
            builder = builder.legacy_only();
        }
        let server = builder.start().await;
        let gateway = mapped_gateway(&server).await;
        for (face, ask) in FACES {
            assert_eq!(ask(&gateway).await, ADA, "{face}, legacy upstream {legacy}");
        }
        assert_eq!(server.calls("get_user").len(), FACES.len(), "each of them is one call");
    }
}

#[tokio::test]
async fn every_document_lists_every_tool() {
    let server = server().tool(get_user()).tool(tool("put_user")).start().await;
    let gateway = mapped_gateway(&server).await;
    let documents = [
        "/openapi.json",
        "/openapi.yaml",
        "/openapi.json?version=3.0",
        "/tools?format=openai",
        "/tools?format=anthropic",
        "/tools?format=gemini",
        "/tools?format=ollama",
        "/tools?format=mcp",
        "/schema.graphql",
    ];
    for document in documents {
        let text = body_of(gateway.http().get(document).await);
        for name in ["get_user", "put_user"] {
            assert!(text.contains(name), "{document} has no {name}: {text}");
        }
    }
    let openapi = gateway.http().get("/openapi.json").await.json();
    assert!(openapi["paths"]["/get_user/{user_id}"]["get"].is_object(), "{openapi}");
    assert!(openapi["paths"]["/tools/get_user"]["post"].is_object(), "{openapi}");
}

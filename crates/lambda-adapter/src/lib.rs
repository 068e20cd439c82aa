//! MCP Proxy Engine on AWS Lambda: events in, replies out; Lambda functions as upstream servers.

// The arguments of each tool of one server, sent through the product in every way: over MCP, as a body, in path and query. Behind the
// product stands a mirror: a server with the same tools that answers each call with the arguments it got.
//
//   roundtrip.mjs --server NAME --tools FILE --binary PATH --folder DIR
//
// FILE is the server's list of tools. Each tool is called with what calls.json says, and once more with its free texts made awkward.
// Exit status: 0 all arrive equal, 1 something does not, 2 it could not be tried.
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { CallToolRequestSchema, ListToolsRequestSchema } from '@modelcontextprotocol/sdk/types.js';

const { values: opt } = parseArgs({
  options: { server: { type: 'string' }, tools: { type: 'string' }, binary: { type: 'string' }, folder: { type: 'string' } },
});
const calls = JSON.parse(readFileSync(new URL('calls.json', import.meta.url), 'utf8').replaceAll('{dir}', '/tmp/a dir'))[opt.server]?.tools;
// Without outputs: the mirror answers something else.
const tools = JSON.parse(readFileSync(opt.tools, 'utf8')).map(({ outputSchema, execution, ...tool }) => tool);
const AWKWARD = 'a b/c?d&e=f%20+ü"\\[x]#☃';

/** A stateless server of these tools; a session would only cost time. */
async function mirror() {
  const http = createServer(async (request, response) => {
    const server = new Server({ name: 'mirror', version: '1.0.0' }, { capabilities: { tools: {} } });
    server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
    server.setRequestHandler(CallToolRequestSchema, ({ params }) => ({
      content: [{ type: 'text', text: JSON.stringify({ tool: params.name, arguments: params.arguments ?? {} }) }],
    }));
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    response.on('close', () => { transport.close(); server.close(); });
    await server.connect(transport);
    await transport.handleRequest(request, response);
  });
  await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
  return http;
}

/** Path variables are what is required and scalar; the rest goes into the query. */
function template(tool) {
  const { properties = {}, required = [] } = tool.inputSchema;
  const scalar = (name) => ['string', 'integer', 'number', 'boolean'].includes(properties[name]?.type);
  const variables = required.filter((name) => scalar(name) && /^\w+$/.test(name)).slice(0, 2);
  return { path: `/mapped/${tool.name}${variables.map((name) => `/{${name}}`).join('')}`, variables };
}

/** The URL of a GET that means these arguments; undefined where it cannot (an empty list has no spelling of its own). */
function url({ path, variables }, args) {
  if (variables.length === 0 || variables.some((name) => args[name] === undefined || args[name] === '')) return undefined;
  const query = new URLSearchParams();
  const isScalar = (value) => value === null || typeof value !== 'object';
  for (const [name, value] of Object.entries(args)) {
    if (variables.includes(name)) continue;
    if (isScalar(value)) query.append(name, String(value));
    else if (Array.isArray(value) && value.length > 0 && value.every(isScalar)) for (const item of value) query.append(name, String(item));
    else if (!Array.isArray(value) && Object.values(value).length > 0 && Object.values(value).every(isScalar)) {
      for (const [inner, item] of Object.entries(value)) query.append(`${name}[${inner}]`, String(item));
    } else query.append(name, JSON.stringify(value));
  }
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(args[name])));
  return query.size > 0 ? `${filled}?${query}` : filled;
}

/** The same arguments with every free text replaced; undefined where there is none. */
function awkward(tool, args) {
  const { properties = {} } = tool.inputSchema;
  const isFree = (name) => {
    const schema = properties[name];
    return schema?.type === 'string' && !['enum', 'pattern', 'format', 'const', 'maxLength'].some((key) => key in schema);
  };
  const free = Object.keys(args).filter((name) => typeof args[name] === 'string' && isFree(name));
  return free.length > 0 ? { ...args, ...Object.fromEntries(free.map((name) => [name, AWKWARD])) } : undefined;
}

const lost = [];
const sent = { mcp: 0, body: 0, url: 0 };
const http = await mirror();
const config = join(opt.folder, `${opt.server}-roundtrip.json`);
const templates = new Map(tools.map((tool) => [tool.name, template(tool)]));
writeFileSync(config, JSON.stringify({
  response_mappings: Object.fromEntries([...templates.values()].map(({ path }) => [path, {}])),
  mcpServers: { mirror: { url: `http://127.0.0.1:${http.address().port}/mcp` } },
}));
const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => resolve(port));
  });
});
const base = `http://127.0.0.1:${port}`;
const gateway = spawn(opt.binary, ['serve', '--config', config, '--listen', `127.0.0.1:${port}`], { stdio: 'ignore' });
let status = 2;
try {
  const deadline = Date.now() + 30_000;
  while (!(await fetch(`${base}/readyz`).then((answer) => answer.ok, () => false))) {
    if (Date.now() > deadline) throw new Error('the gateway is not ready after 30 s');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const client = new Client({ name: 'peers', version: '1.0.0' }, { capabilities: {} });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${base}/mcp`)));
  const check = (tool, way, args, answer) => {
    if (isDeepStrictEqual(answer, { tool: tool.name, arguments: args })) sent[way] += 1;
    else lost.push(`${tool.name} by ${way}\n    sent:    ${JSON.stringify(args)}\n    arrived: ${JSON.stringify(answer)}`);
  };
  for (const tool of tools) {
    if (!(tool.name in (calls ?? {}))) { lost.push(`calls.json does not say how to call ${tool.name}`); continue; }
    const usual = calls[tool.name].call ?? calls[tool.name].arguments;
    for (const args of [usual, usual && awkward(tool, usual)].filter(Boolean)) {
      const over = await client.callTool({ name: tool.name, arguments: args });
      check(tool, 'mcp', args, JSON.parse(over.content[0].text));
      const headers = { 'content-type': 'application/json' };
      const posted = await fetch(`${base}/tools/${tool.name}`, { method: 'POST', headers, body: JSON.stringify(args) });
      check(tool, 'body', args, await posted.json());
      const where = url(templates.get(tool.name), args);
      if (where) check(tool, 'url', args, await fetch(base + where).then((answer) => answer.json()));
    }
  }
  await client.close();
  status = lost.length > 0 ? 1 : 0;
} catch (error) {
  console.error(`roundtrip: ${error.stack ?? error}`);
} finally {
  gateway.kill();
  http.closeAllConnections();
  http.close();
}
for (const line of lost) console.log(`  differs: ${line}`);
console.log(`  ${opt.server}: ${sent.mcp} calls over MCP, ${sent.body} by body, ${sent.url} by path and query, ${lost.length} differences`);
process.exit(status);

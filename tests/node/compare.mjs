// The official TypeScript client against one server twice: directly, and through the product. Whatever differs is lost.
//
//   compare.mjs --server NAME --direct WHERE --through URL --era modern|legacy [--among] [--dir D]
//
// WHERE is a Streamable HTTP URL, `sse:URL`, or a command line for stdio as a JSON array. What is compared is what came
// over the wire, not what the client makes of it: every item of the four lists, and the results or errors of
//
// - every tool, with the arguments calls.json has for it, and, if it has required ones, without any;
// - every prompt, with the arguments of calls.json and without any;
// - every resource, one of each template's (calls.json names them), and one that is not there;
// - completions of calls.json; a tool and a prompt that are not there; a method that is not there.
//
// A tool, prompt or template that calls.json does not know is an error, so that nothing is passed over in silence. With
// --among, other servers' items may be listed too, and what no server has is not asked for. Exit status: 0 nothing
// differs, 1 something does, 2 the comparison could not be made.
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { readFileSync } from 'node:fs';
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const { values: opt } = parseArgs({
  options: {
    server: { type: 'string' },
    direct: { type: 'string' },
    through: { type: 'string' },
    era: { type: 'string' },
    among: { type: 'boolean', default: false },
    dir: { type: 'string', default: '' },
  },
});
const table = JSON.parse(readFileSync(new URL('calls.json', import.meta.url), 'utf8').replaceAll('{dir}', opt.dir))[opt.server];
const REVISIONS = { modern: '2026-07-28', legacy: '2025-11-25' };
const LISTS = [
  ['tools/list', 'tools', 'name', 'tools'],
  ['prompts/list', 'prompts', 'name', 'prompts'],
  ['resources/list', 'resources', 'uri', 'resources'],
  ['resources/templates/list', 'resourceTemplates', 'uriTemplate', 'resources'],
];

function transport(where) {
  if (where.startsWith('[')) {
    const [command, ...args] = JSON.parse(where);
    return new StdioClientTransport({ command, args, stderr: 'ignore' });
  }
  if (where.startsWith('sse:')) return new SSEClientTransport(new URL(where.slice(4)));
  return new StreamableHTTPClientTransport(new URL(where));
}

/** Takes whatever comes: it is we who judge. */
const anything = { '~standard': { version: 1, vendor: 'compare', validate: (value) => ({ value }) } };

/** A connected client whose `ask` gives the response as it came over the wire. */
async function connect(where, mode) {
  const client = new Client({ name: 'peers', version: '1.0.0' }, { capabilities: {}, versionNegotiation: { mode } });
  const wire = transport(where);
  await client.connect(wire);
  const responses = new Map();
  const hear = wire.onmessage;
  wire.onmessage = (message, extra) => {
    if (message.id !== undefined && message.method === undefined) responses.set(message.id, message);
    hear(message, extra);
  };
  const send = wire.send.bind(wire);
  let asked;
  wire.send = (message, options) => {
    if (message.method !== undefined && message.id !== undefined) asked = message.id;
    return send(message, options);
  };
  const ask = async (method, params) => {
    const failure = await client.request({ method, ...(params && { params }) }, anything).then(() => undefined, (error) => error);
    const response = responses.get(asked);
    responses.delete(asked);
    if (response?.result !== undefined) return response.result;
    if (response?.error !== undefined) return { error: response.error };
    // An error response with a 4xx status reaches no handler of messages.
    if (failure?.code === undefined) throw failure ?? new Error(`${method}: no response`);
    const { code, message, data } = failure;
    return { error: { code, message, ...(data !== undefined && { data }) } };
  };
  return { client, ask };
}

const lost = [];
function same(what, direct, through) {
  if (isDeepStrictEqual(direct, through)) return;
  lost.push(`${what}\n    direct:  ${JSON.stringify(direct)?.slice(0, 600)}\n    through: ${JSON.stringify(through)?.slice(0, 600)}`);
}

/** Every item of a list by its key; pages followed to the end. */
async function list({ ask }, [method, member, key]) {
  const all = new Map();
  let cursor;
  do {
    const page = await ask(method, cursor === undefined ? undefined : { cursor });
    if (page.error) throw new Error(`${method}: ${JSON.stringify(page.error)}`);
    for (const item of page[member]) {
      if (all.has(item[key])) throw new Error(`listed twice: ${item[key]}`);
      all.set(item[key], item);
    }
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return all;
}

// What a revision makes every server say of itself in each result; it is the product's own word, not the server's.
const ENVELOPE = ['resultType', 'ttlMs', 'cacheScope'];
function payload(result) {
  const { _meta, ...rest } = result;
  for (const key of ENVELOPE) delete rest[key];
  const { 'io.modelcontextprotocol/serverInfo': _, ...meta } = _meta ?? {};
  return { ...rest, ...(Object.keys(meta).length > 0 && { _meta: meta }) };
}

/** The shape of a result whose texts change from call to call. */
const shape = (result) => JSON.parse(JSON.stringify(result), (_, value) => (typeof value === 'object' ? value : typeof value));

/**
 * How a resource that is not there is refused depends on the revision (-32002 before 2026-07-28, -32602 since), and the
 * product says so in the client's, and which URI it was.
 */
const missing = ({ error, ...rest }) => {
  if (!error) return rest;
  const { uri, ...data } = error.data ?? {};
  return { ...rest, error: { code: error.code === -32002 ? -32602 : error.code, message: error.message, data } };
};

const counted = { items: 0, results: 0, errors: 0 };
async function compare(what, here, there, method, params, view = (result) => result) {
  const [direct, through] = [payload(await here.ask(method, params)), payload(await there.ask(method, params))];
  same(what, view(direct), view(through));
  counted[direct.error ? 'errors' : 'results'] += 1;
}

try {
  if (!table) throw new Error(`calls.json knows no server ${opt.server}`);
  // As the product does it: what a server answers may depend on the era it is asked in.
  const here = await connect(opt.direct, 'auto');
  const there = await connect(opt.through, opt.era === 'modern' ? { pin: REVISIONS.modern } : 'legacy');
  same('protocol version', REVISIONS[opt.era], there.client.getNegotiatedProtocolVersion());
  const declared = here.client.getServerCapabilities();
  const listed = {};
  for (const entry of LISTS) {
    const [, member, , capability] = entry;
    if (!declared[capability]) continue;
    const [direct, through] = [await list(here, entry), await list(there, entry)];
    same(`the order of ${member}`, [...direct.keys()], [...through.keys()].filter((key) => !opt.among || direct.has(key)));
    for (const [key, item] of direct) same(`${member} ${key}`, item, through.get(key));
    counted.items += direct.size;
    listed[member] = direct;
  }
  const known = (member, key) => {
    const entry = table[member]?.[key];
    if (!entry) lost.push(`calls.json does not say how to use ${member} ${key}`);
    return entry;
  };
  for (const [name, tool] of listed.tools ?? []) {
    const entry = known('tools', name);
    if (!entry?.call) continue;
    await compare(`call ${name}`, here, there, 'tools/call', { name, arguments: entry.call }, entry.unstable ? shape : undefined);
    if (tool.inputSchema.required?.length > 0) {
      await compare(`call ${name} without arguments`, here, there, 'tools/call', { name, arguments: {} });
    }
  }
  for (const [name] of listed.prompts ?? []) {
    const entry = known('prompts', name);
    if (!entry) continue;
    await compare(`prompt ${name}`, here, there, 'prompts/get', { name, arguments: entry.arguments }, entry.unstable ? shape : undefined);
    await compare(`prompt ${name} without arguments`, here, there, 'prompts/get', { name });
  }
  for (const [uri] of listed.resources ?? []) await compare(`resource ${uri}`, here, there, 'resources/read', { uri });
  for (const [template] of listed.resourceTemplates ?? []) {
    const entry = known('templates', template);
    if (entry) await compare(`resource ${entry.uri}`, here, there, 'resources/read', { uri: entry.uri }, entry.unstable ? shape : undefined);
  }
  for (const params of table.completions ?? []) await compare(`completion ${JSON.stringify(params)}`, here, there, 'completion/complete', params);
  if (!opt.among) {
    await compare('a tool that is not there', here, there, 'tools/call', { name: 'nowhere', arguments: {} });
    if (declared.prompts) await compare('a prompt that is not there', here, there, 'prompts/get', { name: 'nowhere' });
    if (declared.resources) await compare('a resource that is not there', here, there, 'resources/read', { uri: 'nowhere:///' }, missing);
  }
  for (const member of ['tools', 'prompts']) {
    for (const name of Object.keys(table[member] ?? {})) if (!listed[member]?.has(name)) lost.push(`the server has no ${member} ${name} any more`);
  }
  await here.client.close();
  await there.client.close();
} catch (error) {
  console.error(`compare: ${error.stack ?? error}`);
  process.exit(2);
}
for (const line of lost) console.log(`  differs: ${line}`);
const spoken = `${opt.server}, ${opt.era}`;
console.log(`  ${spoken}: ${counted.items} items, ${counted.results} results and ${counted.errors} errors compared, ${lost.length} differences`);
process.exit(lost.length > 0 ? 1 : 0);

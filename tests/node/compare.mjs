// The official TypeScript client against one server twice: directly, and through the product. Whatever differs is lost.
//
//   compare.mjs --server NAME --direct WHERE --through URL --era modern|legacy [--among] [--dir D]
//
// WHERE is a Streamable HTTP URL, `sse:URL`, or a command line for stdio as a JSON array. Both sides list every tool and
// call each one that calls.json has arguments for; a tool that calls.json does not know is an error, so that nothing is
// passed over in silence. With --among, other servers' tools may be listed too. Exit status: 0 nothing differs, 1 something
// does, 2 the comparison could not be made.
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

function transport(where) {
  if (where.startsWith('[')) {
    const [command, ...args] = JSON.parse(where);
    return new StdioClientTransport({ command, args, stderr: 'ignore' });
  }
  if (where.startsWith('sse:')) return new SSEClientTransport(new URL(where.slice(4)));
  return new StreamableHTTPClientTransport(new URL(where));
}

async function connect(where, mode) {
  const client = new Client({ name: 'peers', version: '1.0.0' }, { capabilities: {}, versionNegotiation: { mode } });
  await client.connect(transport(where));
  return client;
}

/** Every tool, by name; pages followed to the end. */
async function tools(client) {
  const all = new Map();
  let cursor;
  do {
    const page = await client.listTools(cursor === undefined ? undefined : { cursor });
    for (const tool of page.tools) {
      if (all.has(tool.name)) throw new Error(`listed twice: ${tool.name}`);
      all.set(tool.name, tool);
    }
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return all;
}

/** The result, or the protocol's error, of one call; what a revision adds to every result is left out. */
async function call(client, name, args) {
  try {
    const { resultType, _meta, ...result } = await client.callTool({ name, arguments: args });
    const { 'io.modelcontextprotocol/serverInfo': _, ...meta } = _meta ?? {};
    return { ...result, ...(Object.keys(meta).length > 0 && { _meta: meta }) };
  } catch (error) {
    return { error: { code: error.code, message: error.message } };
  }
}

const lost = [];
function same(what, direct, through) {
  if (isDeepStrictEqual(direct, through)) return;
  lost.push(`${what}\n    direct:  ${JSON.stringify(direct)?.slice(0, 600)}\n    through: ${JSON.stringify(through)?.slice(0, 600)}`);
}

/** The shape of a result whose text changes from call to call. */
const shape = (result) => ({ ...result, content: result.content?.map((block) => Object.keys(block).sort()) });

let compared = 0;
try {
  if (!table) throw new Error(`calls.json knows no server ${opt.server}`);
  const direct = await connect(opt.direct, 'auto');
  const through = await connect(opt.through, opt.era === 'modern' ? { pin: REVISIONS.modern } : 'legacy');
  same('protocol version', REVISIONS[opt.era], through.getNegotiatedProtocolVersion());
  const here = await tools(direct);
  const there = await tools(through);
  same('names', [...here.keys()], [...there.keys()].filter((name) => !opt.among || here.has(name)));
  for (const [name, tool] of here) {
    // 2026-07-28 knows no `execution`; the client takes it out of what a server of that era lists.
    const { execution, ...rest } = tool;
    same(`tool ${name}`, opt.era === 'modern' ? rest : tool, there.get(name));
    const entry = table[name];
    if (!entry) { lost.push(`calls.json does not say how to call ${name}`); continue; }
    if (!entry.call) continue;
    const view = entry.unstable ? shape : (result) => result;
    same(`call ${name}`, view(await call(direct, name, entry.call)), view(await call(through, name, entry.call)));
    compared += 1;
  }
  for (const name of Object.keys(table)) if (!here.has(name)) lost.push(`the server has no tool ${name} any more`);
  await direct.close();
  await through.close();
} catch (error) {
  console.error(`compare: ${error.stack ?? error}`);
  process.exit(2);
}
for (const line of lost) console.log(`  differs: ${line}`);
console.log(`  ${opt.server}, ${opt.era}: ${compared} tools called, ${lost.length} differences`);
process.exit(lost.length > 0 ? 1 : 0);

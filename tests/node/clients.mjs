// One official TypeScript client in front of the reference server, through the product: tools, progress, cancellation,
// resources and subscriptions, elicitation and sampling.
//
//   clients.mjs --sdk old|new --era modern|legacy --url URL
//
// `old` is @modelcontextprotocol/sdk, which knows sessions only; `new` is @modelcontextprotocol/client. Exit status: 0 all
// went as it should, 1 something did not, 2 the run could not be made.
import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';

const { values: opt } = parseArgs({
  options: { sdk: { type: 'string' }, era: { type: 'string' }, url: { type: 'string' } },
});
const CAPABILITIES = { elicitation: {}, sampling: {}, roots: {} };
const ANSWERS = {
  'elicitation/create': ({ params }) => {
    assert.equal(params.message, 'Who are you?');
    return { action: 'accept', content: { username: 'ada', email: 'ada@example.com' } };
  },
  'sampling/createMessage': ({ params }) => {
    assert.equal(params.messages[0].content.text, 'Say hello');
    return { role: 'assistant', model: 'none', content: { type: 'text', text: 'hello' } };
  },
  'roots/list': () => ({ roots: [{ uri: 'file:///tmp', name: 'tmp' }] }),
};
const updated = [];

async function newClient() {
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const mode = opt.era === 'modern' ? { pin: '2026-07-28' } : 'legacy';
  const client = new Client({ name: 'clients', version: '1.0.0' }, { capabilities: CAPABILITIES, versionNegotiation: { mode } });
  for (const [method, answer] of Object.entries(ANSWERS)) client.setRequestHandler(method, answer);
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => { updated.push(params.uri); });
  await client.connect(new StreamableHTTPClientTransport(new URL(opt.url)));
  const subscribe = async (uri) => {
    if (opt.era === 'legacy') return client.subscribeResource({ uri });
    return client.listen({ resourceSubscriptions: [uri] });
  };
  return { client, subscribe, call: (name, args, options) => client.callTool({ name, arguments: args }, options) };
}

async function oldClient() {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
  const types = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client({ name: 'clients', version: '1.0.0' }, { capabilities: CAPABILITIES });
  client.setRequestHandler(types.ElicitRequestSchema, ANSWERS['elicitation/create']);
  client.setRequestHandler(types.CreateMessageRequestSchema, ANSWERS['sampling/createMessage']);
  client.setRequestHandler(types.ListRootsRequestSchema, ANSWERS['roots/list']);
  client.setNotificationHandler(types.ResourceUpdatedNotificationSchema, ({ params }) => { updated.push(params.uri); });
  await client.connect(new StreamableHTTPClientTransport(new URL(opt.url)));
  return {
    client,
    subscribe: (uri) => client.subscribeResource({ uri }),
    call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
  };
}

/** Tries until it holds; the reason it did not, after ten seconds. */
async function soon(what, holds) {
  for (let n = 0; n < 100; n += 1) {
    if (await holds()) return;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`never happened: ${what}`);
}

const text = (result) => result.content[0].text;

const STEPS = {
  async tools({ client, call }) {
    const { tools } = await client.listTools();
    assert.ok(tools.some(({ name }) => name === 'test_simple_text'));
    assert.equal(text(await call('test_simple_text', {})), 'This is a simple text response for testing.');
    assert.equal((await call('test_error_handling', {})).isError, true);
  },
  async progress({ call }) {
    const heard = [];
    await call('test_tool_with_progress', {}, { onprogress: ({ progress, total }) => heard.push([progress, total]) });
    assert.deepEqual(heard, [[0, 100], [50, 100], [100, 100]]);
  },
  async cancellation({ call }) {
    const before = Number(text(await call('x_cancelled', {})));
    const controller = new AbortController();
    // Cancelled once it is known to run.
    const waiting = call('x_wait', {}, { signal: controller.signal, onprogress: () => controller.abort('enough') });
    await assert.rejects(waiting);
    await soon('the cancel reaches the server', async () => Number(text(await call('x_cancelled', {}))) > before);
  },
  async resources({ client }) {
    const { resources } = await client.listResources();
    assert.ok(resources.some(({ uri }) => uri === 'test://static-text'));
    const { contents } = await client.readResource({ uri: 'test://static-text' });
    assert.equal(contents[0].text, 'This is the content of the static text resource.');
    await assert.rejects(client.readResource({ uri: 'test://nowhere' }));
    const { messages } = await client.getPrompt({ name: 'test_simple_prompt' });
    assert.equal(messages[0].content.text, 'This is a simple prompt for testing.');
  },
  async subscriptions({ call, subscribe }) {
    await subscribe('test://watched-resource');
    await soon('an update is heard of', async () => {
      await call('test_trigger_resource_update', {});
      return updated.includes('test://watched-resource');
    });
  },
  async elicitation({ call }) {
    const answer = text(await call('test_elicitation', { message: 'Who are you?' }));
    assert.match(answer, /action=accept/);
    assert.match(answer, /ada@example.com/);
    assert.equal(text(await call('test_sampling', { prompt: 'Say hello' })), 'LLM response: hello');
  },
};

let failed = 0;
try {
  const one = await (opt.sdk === 'old' ? oldClient() : newClient());
  for (const [name, step] of Object.entries(STEPS)) {
    try {
      await step(one);
    } catch (error) {
      failed += 1;
      console.log(`  ${name}: ${String(error.stack ?? error).split('\n').slice(0, 4).join(' ')}`);
    }
  }
  await one.client.close();
} catch (error) {
  console.error(`clients: ${error.stack ?? error}`);
  process.exit(2);
}
console.log(`  ${opt.sdk} SDK, ${opt.era}: ${Object.keys(STEPS).length - failed} of ${Object.keys(STEPS).length} steps`);
process.exit(failed > 0 ? 1 : 0);

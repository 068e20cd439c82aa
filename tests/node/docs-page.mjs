// The documentation page in a real browser: it is drawn, runs tools, shows what they answer, and asks nobody else for anything.
//
//   docs-page.mjs --base URL --chromium PATH --shots DIR
//
// URL is an endpoint in front of the demo's tools; the page is at URL/docs. Screenshots go to DIR.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';

const { values: opt } = parseArgs({
  options: { base: { type: 'string' }, chromium: { type: 'string' }, shots: { type: 'string' } },
});
const origin = new URL(opt.base).origin;
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

mkdirSync(opt.shots, { recursive: true });
const complaints = [];

const browser = await chromium.launch({ executablePath: opt.chromium, args: QUIET });
try {
  const page = await browser.newPage({ viewport: { width: 1200, height: 900 } });
  page.setDefaultTimeout(20_000);
  // A failing tool is part of the plan: the browser notes its status on the console.
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.text().includes('status of 422')) complaints.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => complaints.push(`script: ${error.message}`));
  page.on('request', (request) => {
    const { protocol, origin: to } = new URL(request.url());
    if (!['data:', 'blob:'].includes(protocol) && to !== origin) complaints.push(`asks ${request.url()}`);
  });

  const opened = await page.goto(`${opt.base}/docs`);
  const policy = opened.headers()['content-security-policy'];
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.doesNotMatch(policy, /unsafe/);
  const document = await fetch(`${opt.base}/openapi.json`).then((answer) => answer.json());
  const operations = Object.values(document.paths).flatMap(Object.keys).length;
  await page.waitForSelector('.opblock');
  assert.equal(await page.locator('.opblock').count(), operations, 'every operation has its row');
  assert.equal(await page.title(), document.info.title);
  assert.equal(await page.getByText('Warning', { exact: true }).count(), 0, 'the viewer warns of nothing');
  assert.equal(await page.locator('.errors-wrapper').count(), 0, 'the viewer finds no error');
  await page.screenshot({ path: join(opt.shots, 'page.png'), fullPage: true });

  /** Opens an operation, fills it in, runs it, and gives the status and the body that are shown. */
  async function use(path, fill) {
    const block = page.locator('.opblock').filter({ has: page.locator(`.opblock-summary-path[data-path="${path}"]`) });
    await block.locator('.opblock-summary-control').click();
    await block.locator('button.execute').waitFor();
    await fill(block);
    await block.locator('button.execute').click();
    const answer = block.locator('.live-responses-table tbody tr.response').first();
    await answer.waitFor();
    const where = await block.locator('.request-url pre').innerText();
    assert.ok(where.startsWith(opt.base), `${where} is at this endpoint`);
    const status = (await answer.locator('.response-col_status').innerText()).trim().split(/\s/)[0];
    const body = await answer.locator('.highlight-code pre, pre.microlight').first().innerText();
    // Where the answer is: a page with every answer open is very long.
    await answer.scrollIntoViewIfNeeded();
    await page.screenshot({ path: join(opt.shots, `${path.replace(/\W+/g, '-').replace(/^-|-$/g, '')}.png`) });
    return { status, body };
  }
  const body = (value) => (block) => block.locator('textarea').first().fill(JSON.stringify(value));

  const user = await use('/tools/get_user', body({ user_id: '123' }));
  assert.equal(user.status, '200');
  assert.deepEqual(JSON.parse(user.body), { id: '123', name: 'Ada Lovelace', email: 'ada@example.com', city: 'London' });
  const said = await use('/tools/echo', body({ message: 'naïve ☃' }));
  assert.deepEqual([said.status, said.body.trim()], ['200', 'naïve ☃']);
  const failed = await use('/tools/fail', body({ message: 'on purpose' }));
  assert.equal(failed.status, '422');
  assert.equal(JSON.parse(failed.body).detail, 'on purpose');
  if (document.paths['/get_user/{user_id}']) {
    const mapped = await use('/get_user/{user_id}', (block) => block.locator('tr[data-param-name="user_id"] input').fill('124'));
    assert.equal(mapped.status, '200');
    assert.equal(JSON.parse(mapped.body).name, 'Grace Hopper');
  }
  assert.deepEqual(complaints, [], 'neither script, nor policy, nor network complains');
  console.log(`  ${opt.base}/docs: ${operations} operations shown, tools run, nothing asked of anybody else`);
} finally {
  await browser.close();
}

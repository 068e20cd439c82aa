// One leg of one revision, as the suite's own list of requirements has it: [{name, reason?}]. A scenario with a reason
// does not count.
//   node scenarios.mjs REVISION server|client
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [revision, leg] = process.argv.slice(2);
const suite = new URL('./node_modules/@modelcontextprotocol/conformance/', import.meta.url);
const { parse } = createRequire(new URL('package.json', suite))('yaml');
const requirements = parse(readFileSync(new URL(`requirements/${revision}.yaml`, suite), 'utf8'));
const scored = requirements[leg].map((name) => ({ name }));
const others = requirements.not_scored
  .filter((entry) => entry.leg === leg)
  .map(({ scenario, reason }) => ({ name: scenario, reason }));
console.log(JSON.stringify([...scored, ...others]));

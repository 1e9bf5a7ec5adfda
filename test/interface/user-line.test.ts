// Messages name the user's line, whatever runs the package: sources, what was built, source maps, bundles.
import { expect, test } from 'vitest';
import { placeOutside } from '../../src/interface/transform/user-line.ts';

const built = '/app/node_modules/tengen/dist';
const sources = '/app/node_modules/tengen/src';

test.each([
  [
    'what was built',
    `Error: where
    at userLine (file://${built}/chunks/user-line-Bz8.js:18:26)
    at Array.map (<anonymous>)
    at nms (file://${built}/vision.js:3:4)
    at main (file:///app/my program/main.mjs:3:30)
    at ModuleJob.run (node:internal/modules/esm/module_job:325:25)`,
    '/app/my program/main.mjs:3:30',
  ],
  [
    'source maps',
    `Error: where
    at userLine (${sources}/interface/transform/user-line.ts:18:26)
    at Watch.emit (${sources}/interface/transform/tracing/watch.ts:180:5)
    at <anonymous> (/app/src/interface/main.ts:3:30)`,
    '/app/src/interface/main.ts:3:30',
  ],
  [
    'a bundle with a source map',
    `Error: where
    at userLine (/app/node_modules/tengen/src/interface/transform/user-line.ts:18:26)
    at async /app/main.ts:3:30`,
    '/app/main.ts:3:30',
  ],
  [
    'a bundle, which does not tell whose a line is',
    `Error: where
    at userLine (https://host/assets/index.js:1:2600)
    at main (https://host/assets/index.js:1:30)`,
    '',
  ],
  [
    'stacks without a first line',
    `userLine@https://host/tengen/dist/chunks/user-line-Bz8.js:18:26
add@https://host/tengen/dist/index.js:1:2
@https://host/main.js:3:30
`,
    'https://host/main.js:3:30',
  ],
  ['no stack', '', ''],
])('%s', (_what, stack, place) => {
  expect(placeOutside(stack)).toBe(place);
});

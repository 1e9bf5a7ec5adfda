// Writes docs/ops.md from the definitions of the ops, and measures their errors: `npm run ops-table`.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { InterpDevice } from '../src/backends/interp/device.ts';
import { NativeDevice } from '../src/backends/native/device.ts';
import { WasmDevice } from '../src/backends/wasm/device.ts';
import type { Device } from '../src/runtime/device.ts';
import { progress } from '../src/terminal.ts';
import { root } from './entries.ts';
import { errorCell, largestError } from './ops-table/errors.ts';
import { factsOf, tableOps } from './ops-table/facts.ts';
import { type Backend, pageOf, type Row, rowsOf } from './ops-table/page.ts';

const HELP = `npm run ops-table [-- --missing] [--op NAME]

Writes docs/ops.md: what the definitions of the ops say, and the largest error of each on every backend.

  --missing   measures only ops that the page has not got yet
  --op NAME   measures only this op, and others that are missing`;

const PAGE = `${root}docs/ops.md`;

const { values } = parseArgs({
  options: {
    missing: { type: 'boolean', default: false },
    op: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

function main(): void {
  const known = new Map<string, Row>();
  if (existsSync(PAGE)) {
    for (const row of rowsOf(readFileSync(PAGE, 'utf8'))) known.set(row.op, row);
  }
  const keeps = (name: string): boolean =>
    known.has(name) && (values.missing || (values.op !== undefined && values.op !== name));
  const devices: Readonly<Record<Backend, Device>> = {
    interp: new InterpDevice({ vectorBytes: 16 }),
    wasm: new WasmDevice({ threads: 1 }),
    native: new NativeDevice({ threads: 1 }),
  };
  const rows: Row[] = [];
  for (const op of progress(tableOps(), { label: 'ops' })) {
    const before = known.get(op.name);
    const measure = (name: Backend): string => errorCell(largestError(devices[name], op));
    const errors =
      before !== undefined && keeps(op.name)
        ? before.errors
        : { interp: measure('interp'), wasm: measure('wasm'), native: measure('native') };
    rows.push({ ...factsOf(op), errors });
  }
  for (const device of Object.values(devices)) device.close();
  writeFileSync(PAGE, pageOf(rows));
  spawnSync('npx', ['oxfmt', PAGE], { cwd: root, stdio: 'inherit' });
  console.log(`docs/ops.md: ${rows.length} ops`);
}

if (values.help) console.log(HELP);
else main();

// npm run parity: the same program file gives the same results wherever it is run.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { listBackends } from '../../src/runtime/registry.ts';
import { browserPlaces } from './browser.ts';
import { cPlaces } from './c.ts';
import {
  type Finding,
  isTelling,
  judge,
  judgeAll,
  type Judgement,
  nothing,
  textOf,
} from './compare.ts';
import { dumpModel, type ModelKind, MODELS } from './models.ts';
import {
  nodePlace,
  NUMERICS,
  type Numerics,
  type Place,
  SkipError,
  type Subject,
} from './places.ts';

const USAGE = `Usage: npm run parity -- [options]

Dumps models with random weights, and runs each file with tengen/lite in fresh processes (wasm, native),
in headless Chromium, and as exported C (gcc, clang, sanitizers, 64-bit ARM in an emulator). Strict
numerics must give the bits of wasm in Node with one thread, fast numerics the same within 1e-5 of the
largest value; wasm in Node must so agree with the function before it was dumped. What is not installed
is skipped. Exit code 1 if anything differs.

  --only id,...   of ${MODELS.map(({ id }) => id).join(', ')}
  --full          images of 224 x 224 instead of 64 x 64
  --json          as JSON
  --help          this text`;

function places(): Place[] {
  const native = listBackends().find(({ name }) => name === 'native')?.unavailable ?? null;
  return [
    nodePlace('wasm', 1, null),
    nodePlace('wasm', 2, null),
    nodePlace('native', 1, native),
    nodePlace('native', 2, native),
    ...browserPlaces(),
    ...cPlaces(),
  ];
}

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0] as string;

/** The first result is what the others must agree with; it is held against the traced function. */
async function tryPlace(
  place: Place,
  subject: Subject,
  numerics: Numerics,
  results: Map<string, Uint8Array>,
): Promise<Judgement> {
  if (place.missing !== null) return nothing('skip', place.missing);
  const [reference] = results.values();
  try {
    const got = await place.outputs(subject, numerics);
    if (!isTelling(got)) return nothing('FAIL', 'not finite numbers that differ');
    results.set(place.name, got);
    return judge(numerics, got, reference ?? subject.traced[numerics]);
  } catch (error) {
    return nothing(error instanceof SkipError ? 'skip' : 'FAIL', messageOf(error));
  }
}

async function checkModel(
  kind: ModelKind,
  all: readonly Place[],
  { folder, full }: { readonly folder: string; readonly full: boolean },
): Promise<Finding[]> {
  console.error(`${kind.title}: dump`);
  const own = join(folder, kind.id);
  mkdirSync(own);
  const dumped = await dumpModel(kind, full);
  const path = join(own, `${kind.id}.tengen`);
  writeFileSync(path, dumped.file);
  const subject = { ...dumped, id: kind.id, path, folder: own };
  const findings: Finding[] = [];
  for (const numerics of NUMERICS) {
    const results = new Map<string, Uint8Array>();
    for (const place of all) {
      const started = performance.now();
      const found = await tryPlace(place, subject, numerics, results);
      const label = place === all[0] ? `${place.name}: beside the function` : place.name;
      findings.push({ model: kind.title, place: label, numerics, ...found });
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.error(`${kind.title}: ${place.name}, ${numerics}: ${found.text} (${seconds} s)`);
    }
    const place = 'any two of them';
    findings.push({
      model: kind.title,
      place,
      numerics,
      ...judgeAll(numerics, [...results.values()]),
    });
  }
  return findings;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      full: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const wanted = values.only?.split(',');
  const unknown = wanted?.find((id) => MODELS.every((kind) => kind.id !== id));
  if (values.help || unknown !== undefined) {
    if (unknown !== undefined) console.error(`there is no model '${unknown}'`);
    console.log(USAGE);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'tengen-parity-'));
  const all = places();
  const findings: Finding[] = [];
  try {
    for (const kind of MODELS) {
      if (wanted !== undefined && !wanted.includes(kind.id)) continue;
      findings.push(...(await checkModel(kind, all, { folder, full: values.full })));
    }
  } finally {
    for (const place of all) await place.close?.();
    rmSync(folder, { recursive: true, force: true });
  }
  console.log(values.json ? JSON.stringify(findings, null, 2) : textOf(findings));
  const isGood = findings.length > 0 && findings.every(({ verdict }) => verdict !== 'FAIL');
  process.exitCode = isGood ? 0 : 1;
}

await main();

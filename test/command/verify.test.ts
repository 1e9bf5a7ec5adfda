// `tengen verify`: agrees on what is right, and names what is wrong, in a program and in a device.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { InterpDevice } from '../../src/backends/interp/index.ts';
import { verify } from '../../src/interface/command/verify.ts';
import { crc32 } from '../../src/interface/io/crc32.ts';
import { formatHeader, HEADER_KEY, parseHeader } from '../../src/interface/lite/header.ts';
import { parseSafetensors, serializeSafetensors, writeNpy } from '../../src/io.ts';
import type { Expression } from '../../src/ir/expression.ts';
import { branch, type Kernel, type Statement } from '../../src/ir/kernel.ts';
import type { Plan } from '../../src/runtime/plan.ts';
import { writeProgram } from '../../src/runtime/program-writer.ts';
import { registerBackend } from '../../src/runtime/registry.ts';
import { readProgram } from '../../src/runtime/stored-program.ts';
import { call, writeNetwork } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'tengen-verify-'));
const file = join(folder, 'net.tengen');
beforeAll(async () => void (await writeNetwork(file)));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The kernel with twice of what it stores. */
function perturbed(kernel: Kernel): Kernel {
  const change = (statement: Statement): Statement => {
    switch (statement.kind) {
      case 'for':
        return { ...statement, body: statement.body.map(change) };
      case 'if':
        return branch(statement.condition, statement.then.map(change), statement.otherwise);
      case 'store': {
        const { value } = statement;
        const { type, lanes } = value;
        // Younger than its operand, which nothing else in the kernel minds.
        const bounds = { id: value.id + 0.5, min: -Infinity, max: Infinity };
        const twice: Expression = {
          ...bounds,
          type,
          lanes,
          kind: 'binary',
          op: 'add',
          left: value,
          right: value,
        };
        return { ...statement, value: twice };
      }
      case 'let':
      case 'declare':
      case 'assign':
      case 'multiplyPairs':
      case 'prefetch':
      case 'barrier':
        return statement;
      default:
        statement satisfies never;
        return statement;
    }
  };
  return { ...kernel, body: kernel.body.map(change) };
}

function withPerturbed(plan: Plan, isIt: (kernel: Kernel) => boolean): Plan {
  return { ...plan, kernels: plan.kernels.map((each) => (isIt(each) ? perturbed(each) : each)) };
}

interface Report {
  readonly ok: boolean;
  readonly verdicts: readonly {
    readonly device: string;
    readonly ok: boolean;
    readonly firstDivergence: string | null;
    readonly ops: { readonly compared: number };
    readonly kernels: { readonly first: { readonly kernel: string } | null } | null;
  }[];
}

test('NaN agrees with NaN', async () => {
  const nan = join(folder, 'nan.npy');
  await writeNpy(nan, { data: new Float32Array(72).fill(NaN), shape: [1, 2, 6, 6] });
  const { code, text } = await call(verify, file, '--device', 'wasm', '--input', `image=${nan}`);
  expect(text).toContain('strict');
  expect(code).toBe(0);
});

test('a sound model agrees everywhere, kernel by kernel too', async () => {
  const { code, text } = await call(verify, file, '--device', 'wasm', '--kernels', '--json');
  const { ok, verdicts } = JSON.parse(text) as Report;
  expect(verdicts).toHaveLength(2);
  expect(verdicts[0]!.ops.compared).toBeGreaterThan(5);
  expect(ok).toBe(true);
  expect(code).toBe(0);
});

describe('one perturbed kernel', () => {
  test('in the program of a file: the operations that it computes are named', async () => {
    const { tensors, metadata } = parseSafetensors(readFileSync(file));
    const header = parseHeader(metadata.get(HEADER_KEY)!);
    const stored = header.stored.find(({ target }) => target.numerics === 'strict' && !target.fma)!;
    const program = readProgram(tensors.get(stored.tensor)!.data as Uint8Array);
    const name = program.plan.kernels[program.plan.dispatches[0]!.kernel]!.name;
    const wrong = {
      ...program,
      plan: withPerturbed(program.plan, (kernel) => kernel.name === name),
    };
    const bytes = writeProgram(wrong);
    tensors.set(stored.tensor, { data: bytes, shape: [bytes.length], dtype: 'uint8' });
    const records = header.stored.map((each) =>
      each.tensor === stored.tensor ? { ...each, checksum: crc32(bytes) } : each,
    );
    const text = new Map([...metadata, [HEADER_KEY, formatHeader({ ...header, stored: records })]]);
    const path = join(folder, 'wrong.tengen');
    writeFileSync(path, await serializeSafetensors(tensors, { metadata: text }));
    const found = await call(verify, path, '--device', 'wasm', '--numerics', 'strict', '--json');
    expect(found.code).toBe(1);
    const [verdict] = (JSON.parse(found.text) as Report).verdicts;
    expect(verdict!.kernels!.first!.kernel).toBe(name);
    expect(verdict!.firstDivergence).toMatch(/conv/);
    const shown = await call(verify, path, '--device', 'wasm', '--numerics', 'strict');
    expect(shown.text).toMatch(/the first kernel that differs is .*conv/);
  });

  test('of a device: the operation is named', async () => {
    registerBackend({
      name: 'broken',
      priority: -2,
      unavailable: () => null,
      create: () =>
        new (class extends InterpDevice {
          override load(plan: Plan) {
            return super.load(withPerturbed(plan, (kernel) => kernel.name.startsWith('matmul')));
          }
        })(),
    });
    const { code, text } = await call(verify, file, '--device', 'broken', '--numerics', 'strict');
    expect(code).toBe(1);
    expect(text).toMatch(/the first operation that differs is matmul \(node \d+, \[1,3\]/);
  });
});

test('calls that make no sense', async () => {
  await expect(call(verify)).rejects.toThrow('a FILE is missing');
  await expect(call(verify, join(folder, 'none'))).rejects.toThrow('there is no file');
  await expect(call(verify, file, '--numerics', 'quick')).rejects.toThrow('strict or fast');
  await expect(call(verify, file, '--device', 'interp')).rejects.toThrow('no device to compare');
  await expect(call(verify, file, '--tolerance', '-1')).rejects.toThrow('--tolerance');
  await expect(call(verify, file, '--fast')).rejects.toThrow(/--fast/);
  const cut = join(folder, 'cut.tengen');
  writeFileSync(cut, readFileSync(file).subarray(0, 500));
  await expect(call(verify, cut)).rejects.toThrow(/FormatError|cut\.tengen|end/);
});

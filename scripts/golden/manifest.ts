// Reads a folder of golden vectors: index.json, and per family a list of cases and their tensors.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { parseSafetensors } from '../../src/interface/io/safetensors.ts';
import type { DType, TypedArray } from '../../src/base/dtype.ts';
import type { HostTensor, Tolerance } from './compare.ts';

export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** A case's keyword arguments by PyTorch's names; infinities are numbers here. */
export type Attributes = { readonly [key: string]: Json };

/** A tensor as files hold it, with its name there. */
export interface GoldenTensor extends HostTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly data: TypedArray;
}

/** One case, with its tensors in place of their names. */
export interface GoldenCase {
  readonly id: string;
  readonly family: string;
  readonly op: string;
  readonly attrs: Attributes;
  readonly inputs: readonly (GoldenTensor | null)[];
  readonly outputs: readonly GoldenTensor[];
  readonly gradOutputs: readonly (GoldenTensor | null)[];
  readonly gradInputs: readonly (GoldenTensor | null)[];
  readonly tolerance: Tolerance;
  readonly tags: readonly string[];
  readonly inputNames: readonly (string | null)[];
  readonly outputNames: readonly (string | null)[];
}

/** A folder that does not have the form it should have. */
export class GoldenFormatError extends Error {
  override readonly name = 'GoldenFormatError';
}

interface FamilyIndex {
  readonly cases: number;
  readonly manifest: string;
  readonly data: string;
  readonly sha256?: Readonly<Record<string, string>>;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Infinities travel as strings, because JSON has no number for them. */
export function reviveInfinities(value: Json): Json {
  if (value === 'inf') return Number.POSITIVE_INFINITY;
  if (value === '-inf') return Number.NEGATIVE_INFINITY;
  if (Array.isArray(value)) return value.map((item: Json) => reviveInfinities(item));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(
    ([key, item]) => [key, reviveInfinities(item)] as const,
  );
  return Object.fromEntries(entries);
}

/** Families of a folder: from index.json, or the pairs of files where there is none. */
function readIndex(directory: string): Map<string, FamilyIndex> {
  const path = join(directory, 'index.json');
  if (!existsSync(path)) {
    const names = readdirSync(directory)
      .filter((name) => name.endsWith('.jsonl'))
      .map((name) => name.slice(0, -'.jsonl'.length));
    if (names.length === 0) throw new GoldenFormatError(`${directory} holds no index and no cases`);
    return new Map(
      names.map((name) => [
        name,
        { cases: Number.NaN, manifest: `${name}.jsonl`, data: `${name}.safetensors` },
      ]),
    );
  }
  const index: unknown = JSON.parse(readFileSync(path, 'utf8'));
  if (!isRecord(index) || index['format'] !== 'golden/1' || !isRecord(index['families'])) {
    throw new GoldenFormatError(`${path} is no index of the format golden/1`);
  }
  return new Map(Object.entries(index['families'] as Record<string, FamilyIndex>));
}

function checkDigest(family: FamilyIndex, name: string, bytes: Uint8Array): void {
  const expected = family.sha256?.[name];
  if (expected === undefined) return;
  const actual = createHash('sha256').update(bytes).digest('hex');
  if (actual !== expected) {
    throw new GoldenFormatError(`${name} is not the file that the index describes (SHA-256)`);
  }
}

/** Replaces names of tensors by the tensors. */
function resolveCase(
  family: string,
  line: string,
  tensors: ReadonlyMap<string, GoldenTensor>,
): GoldenCase {
  const record: unknown = JSON.parse(line);
  if (!isRecord(record)) throw new GoldenFormatError(`${family}: a line is no case: ${line}`);
  const id = String(record['id']);
  const names = (field: string) => (record[field] ?? []) as readonly (string | null)[];
  const find = (name: string): GoldenTensor => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new GoldenFormatError(`${id}: no tensor ${name} in the data`);
    return tensor;
  };
  const resolve = (field: string) =>
    names(field).map((name) => (name === null ? null : find(name)));
  return {
    id,
    family,
    op: String(record['op']),
    attrs: reviveInfinities((record['attrs'] ?? {}) as Json) as Attributes,
    inputs: resolve('inputs'),
    outputs: names('outputs').map((name) => find(String(name))),
    gradOutputs: resolve('gradOutputs'),
    gradInputs: resolve('gradInputs'),
    tolerance: record['tolerance'] as Tolerance,
    tags: (record['tags'] ?? []) as readonly string[],
    inputNames: names('inputNames'),
    outputNames: names('outputNames'),
  };
}

/** Names of the families in a folder, in the order of its index. */
export function familyNames(directory: string): string[] {
  return [...readIndex(directory).keys()];
}

/**
 * Reads the cases of the named families (all by default).
 *
 * @throws GoldenFormatError if a file is missing, is not the one that the index describes, or
 * names a tensor that is not there.
 */
export function loadCases(
  directory: string,
  families: readonly string[] | undefined,
): GoldenCase[] {
  const index = readIndex(directory);
  const cases: GoldenCase[] = [];
  for (const family of families ?? index.keys()) {
    const entry = index.get(family);
    if (entry === undefined) {
      const known = [...index.keys()].join(', ');
      throw new GoldenFormatError(`no family ${family} in ${directory}; there are ${known}`);
    }
    const manifest = readFileSync(join(directory, entry.manifest));
    const data = readFileSync(join(directory, entry.data));
    checkDigest(entry, entry.manifest, manifest);
    checkDigest(entry, entry.data, data);
    const tensors = readTensors(data);
    const lines = manifest
      .toString('utf8')
      .split('\n')
      .filter((line) => line.trim() !== '');
    if (Number.isInteger(entry.cases) && lines.length !== entry.cases) {
      throw new GoldenFormatError(
        `${entry.manifest} has ${lines.length} cases, the index says ${entry.cases}`,
      );
    }
    for (const line of lines) cases.push(resolveCase(family, line, tensors));
  }
  return cases;
}

function readTensors(bytes: Uint8Array): Map<string, GoldenTensor> {
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { data, shape, dtype }] of parseSafetensors(bytes).tensors) {
    tensors.set(name, { name, data, shape, dtype });
  }
  return tensors;
}

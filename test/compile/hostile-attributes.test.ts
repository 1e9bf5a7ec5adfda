// Attributes as a hostile file may have them: an op refuses what it cannot compute, or computes it within
// the memory it has been given (the interpreter checks every access).
import { describe, expect, test } from 'vitest';
import { FormatError, TengenError } from '../../src/base/errors.ts';
import type { Node } from '../../src/graph/node.ts';
import { type Attrs, makeNode } from '../../src/graph/op.ts';
import { graphOf, parseGraphRecord, recordGraph } from '../../src/graph/record.ts';
import { computedOps, leafFor } from '../support/graphs.ts';
import { compileRoots, execute } from './harness.ts';

type Json = Record<string, unknown>;

/** All places of numbers in attributes. */
function numbersIn(json: Json): { of: Json; key: string }[] {
  return Object.keys(json).flatMap((key) => {
    const value = json[key];
    if (typeof value === 'number') return [{ of: json, key }];
    return typeof value === 'object' && value !== null ? numbersIn(value as Json) : [];
  });
}

const wrong = (value: number): number[] => [-1, 0, value + 1, value * 2 + 3, -value - 7, 37];
const ops = computedOps().filter(({ lower }) => lower.kind !== 'host');

describe('attributes of a hostile file', () => {
  test.each(ops.map((op) => [op.name, op] as const))('%s', (_name, op) => {
    for (const sample of op.samples().slice(0, 3)) {
      const leaves = sample.inputs.map(leafFor);
      const { record } = recordGraph([makeNode(op, leaves, sample.attrs as Attrs)]);
      const text = JSON.stringify(record);
      const places = (json: Json): { of: Json; key: string }[] =>
        (json['nodes'] as Json[]).flatMap(({ attrs = {} }) => numbersIn(attrs as Json));
      const values = places(JSON.parse(text) as Json).map(({ of, key }) => of[key] as number);
      for (const [i, value] of values.entries()) {
        for (const other of wrong(value)) {
          if (other === value) continue;
          const json = JSON.parse(text) as Json;
          const { of, key } = places(json)[i]!;
          of[key] = other;
          let output: Node | undefined;
          try {
            [output] = graphOf(parseGraphRecord(json), leaves, []).outputs;
          } catch (error) {
            expect(error, `${key} ${value} -> ${other}`).toBeInstanceOf(FormatError);
            continue;
          }
          const inputs = new Map(leaves.map((leaf, k) => [leaf, sample.inputs[k]!]));
          try {
            const { program, compiled } = compileRoots([output!]);
            execute(program, compiled, inputs);
          } catch (error) {
            if (error instanceof TengenError) continue;
            expect.fail(
              `${JSON.stringify(sample.attrs)}: ${key} ${value} -> ${other}: ${String(error)}`,
            );
          }
        }
      }
    }
  });
});

// Squares of elements turned around in registers: as many vectors as each has lanes, by choices of
// lanes that are one instruction each on common machines.
import type { Builder } from '../../ir/builder.ts';
import { type Buffer, type Expression, type Variable, valueTypeOf } from '../../ir/expression.ts';
import type { Statement } from '../../ir/kernel.ts';
import type { ContractionKernel } from '../lower/contraction.ts';
import { loop, loopIndex, roundUp } from './loops.ts';

/** Names the values that a network of lane choices makes, in the order in which they are made. */
class Network {
  readonly statements: Statement[] = [];
  readonly #builder: Builder;

  constructor(builder: Builder) {
    this.#builder = builder;
  }

  name(value: Expression): Variable {
    const { type, lanes } = value;
    const variable = this.#builder.variable('t', type, { lanes });
    this.statements.push({ kind: 'let', variable, value });
    return variable;
  }

  /** Parts of `size` lanes of a and b: number i < parts of a, from there on of b. */
  choose(a: Expression, b: Expression, size: number, parts: readonly number[]): Variable {
    const builder = this.#builder;
    const perVector = a.lanes / size;
    const chosen = parts.flatMap((part) =>
      Array.from({ length: size }, (_, within) => {
        const [source, which] = part < perVector ? [a, part] : [b, part - perVector];
        return builder.extract(source, which * size + within);
      }),
    );
    return this.name(builder.lanes(chosen));
  }
}

/**
 * The transposed square: lane j of result i is lane i of vector j.
 *
 * @param vectors as many as each has lanes; a power of two.
 */
export function transposeVectors(
  builder: Builder,
  vectors: readonly Expression[],
): { readonly statements: readonly Statement[]; readonly values: readonly Expression[] } {
  const network = new Network(builder);
  const lanes = vectors.length;
  const named = vectors.map((vector) => network.name(vector));
  if (lanes < 4 || vectors[0]?.type === 'f64') {
    return { statements: network.statements, values: exchange(network, named, 1) };
  }
  let values = named;
  // Squares of 4 within every 4 lanes; then vector 4 g + j holds, in part q, column 4 q + j.
  const pairs = Array.from({ length: lanes / 4 }, (_, part) => part);
  const low = pairs.flatMap((part) => [
    4 * part,
    lanes + 4 * part,
    4 * part + 1,
    lanes + 4 * part + 1,
  ]);
  const high = low.map((lane) => lane + 2);
  const first = pairs.flatMap((part) => [2 * part, lanes / 2 + 2 * part]);
  const second = first.map((lane) => lane + 1);
  for (let g = 0; g < lanes; g += 4) {
    const [a, b, c, d] = values.slice(g, g + 4) as [Variable, Variable, Variable, Variable];
    const [ab, cd] = [network.choose(a, b, 1, low), network.choose(c, d, 1, low)];
    const [abHigh, cdHigh] = [network.choose(a, b, 1, high), network.choose(c, d, 1, high)];
    values[g] = network.choose(ab, cd, 2, first);
    values[g + 1] = network.choose(ab, cd, 2, second);
    values[g + 2] = network.choose(abHigh, cdHigh, 2, first);
    values[g + 3] = network.choose(abHigh, cdHigh, 2, second);
  }
  values = joinParts(network, values);
  return { statements: network.statements, values };
}

/** Parts of 4 lanes: part q of vector 4 g + j becomes part g of vector 4 q + j. */
function joinParts(network: Network, values: readonly Variable[]): Variable[] {
  const parts = values.length / 4;
  const result = [...values];
  for (let j = 0; j < 4; j++) {
    let group = Array.from({ length: parts }, (_, g) => values[4 * g + j] as Variable);
    // Even parts of neighbours side by side, then odd ones: after log2(parts) times all is in place.
    for (let times = 1; times < parts; times *= 2) {
      const even = Array.from({ length: parts }, (_, i) => 2 * i);
      const odd = even.map((part) => part + 1);
      const half = Array.from({ length: parts / 2 }, (_, i) => i);
      const pair = (i: number, which: readonly number[]): Variable =>
        network.choose(group[2 * i] as Variable, group[2 * i + 1] as Variable, 4, which);
      group = [...half.map((i) => pair(i, even)), ...half.map((i) => pair(i, odd))];
    }
    group.forEach((vector, q) => {
      result[4 * q + j] = vector;
    });
  }
  return result;
}

/** Exchanges lanes of pairs of vectors at distances 1, 2, 4, ...: each step transposes twice as much. */
function exchange(network: Network, values: readonly Variable[], distance: number): Variable[] {
  const { length } = values;
  if (distance >= length) return [...values];
  const result = [...values];
  values.forEach((a, i) => {
    if ((i & distance) !== 0) return;
    const b = values[i + distance] as Variable;
    const lanes = Array.from({ length }, (_, lane) => lane);
    const low = lanes.map((lane) => ((lane & distance) === 0 ? lane : length + lane - distance));
    const high = lanes.map((lane) => ((lane & distance) === 0 ? lane + distance : length + lane));
    result[i] = network.choose(a, b, 1, low);
    result[i + distance] = network.choose(a, b, 1, high);
  });
  return exchange(network, result, 2 * distance);
}

/** Positions that `turnBlock` leaves between two channels for `positions` of them. */
function turnedPitch(positions: number, lanes: number): number {
  const pitch = roundUp(positions, lanes);
  // Not a multiple of what caches map to the same place.
  return pitch % 256 === 0 ? pitch + lanes : pitch;
}

/**
 * Turns a block [position][width] into an array of its own [channel][pitch]. The block has at least
 * as many positions as whole vectors cover; those beyond are turned, too, and mean nothing.
 */
function turnBlock(
  kernel: ContractionKernel,
  block: Buffer,
  sizes: { readonly positions: number; readonly width: number; readonly lanes: number },
): { readonly statements: Statement[]; readonly turned: Buffer; readonly pitch: number } {
  const { positions, width, lanes } = sizes;
  const { builder } = kernel;
  const pitch = turnedPitch(positions, lanes);
  const turned = kernel.privateArray('turned', block.dtype, width * pitch);
  const times = Math.ceil(positions / lanes);
  const tile = loopIndex(builder, 'tile', times);
  const vector = loopIndex(builder, 'vector', width / lanes);
  const position = builder.scale(tile, lanes);
  const channel = builder.scale(vector, lanes);
  const type = valueTypeOf(block.dtype);
  const loads: Statement[] = [];
  const vectors = Array.from({ length: lanes }, (_, i) => {
    const variable = builder.variable('row', type, { lanes });
    const index = builder.add(builder.scale(builder.offset(position, i), width), channel);
    loads.push({ kind: 'let', variable, value: builder.load(block, index, lanes) });
    return variable;
  });
  const { statements, values } = transposeVectors(builder, vectors);
  const stores = values.map((value, i): Statement => {
    const index = builder.add(builder.scale(builder.offset(channel, i), pitch), position);
    return { kind: 'store', buffer: turned, index, value };
  });
  const body = [...loads, ...statements, ...stores];
  const loops = loop(builder, tile, times, [loop(builder, vector, width / lanes, body)]);
  return { statements: [loops], turned, pitch };
}

/**
 * How the elements of a block [position][width] are read channel by channel. Vectors that stand mostly
 * empty are not worth turning around: their elements are gathered.
 */
export function channelReader(
  kernel: ContractionKernel,
  block: Buffer,
  sizes: { readonly positions: number; readonly width: number; readonly lanes: number },
  outputs: number,
): {
  readonly statements: readonly Statement[];
  element(channel: Expression, position: Expression): Expression;
} {
  const { builder } = kernel;
  const at = (buffer: Buffer, row: Expression, size: number, column: Expression): Expression =>
    builder.load(buffer, builder.add(builder.scale(row, size), column));
  if (outputs < sizes.lanes) {
    const element = (channel: Expression, position: Expression): Expression =>
      at(block, position, sizes.width, channel);
    return { statements: [], element };
  }
  const { statements, turned, pitch } = turnBlock(kernel, block, sizes);
  return { statements, element: (channel, position) => at(turned, channel, pitch, position) };
}

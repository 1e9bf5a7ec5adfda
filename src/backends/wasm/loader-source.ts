// The JavaScript beside an exported module: loads it, and gives it typed arrays with names. No word of
// Tengen is in it but this text.
import { byteSize, type DType } from '../../base/dtype.ts';
import { sizeOf } from '../../base/shape.ts';
import {
  blocksOfDraws,
  type ExportedTensor,
  type ExportRequest,
  type ResolvedExport,
} from '../../runtime/export.ts';
import type { StandaloneModule } from './standalone.ts';

/** Arrays that hold a dtype's elements; halves come as their bits. */
const ARRAYS: Readonly<Record<DType, string>> = {
  float32: 'Float32Array',
  float64: 'Float64Array',
  float16: 'Uint16Array',
  bfloat16: 'Uint16Array',
  int8: 'Int8Array',
  uint8: 'Uint8Array',
  int16: 'Int16Array',
  int32: 'Int32Array',
  uint32: 'Uint32Array',
  bool: 'Uint8Array',
};

/** How the files beside the loader are named. */
export interface LoaderFiles {
  readonly module: string;
  /** Null if the weights are in the module, or there are none. */
  readonly weights: string | null;
}

export function renderLoader(
  request: ExportRequest,
  resolved: ResolvedExport,
  standalone: StandaloneModule,
  files: LoaderFiles,
): string {
  const describe = (tensor: ExportedTensor & { readonly address: number | null }): object => {
    const { name, dtype, shape, address } = tensor;
    return { name, dtype, shape, size: sizeOf(shape), address };
  };
  const facts = {
    name: request.name,
    numerics: resolved.target.numerics,
    inputs: standalone.inputs.map((input) => {
      const { also, limits = {} } = input;
      return { ...describe(input), also, limits };
    }),
    outputs: standalone.outputs.map(describe),
    weights: standalone.state.map(describe),
    checks: (request.checks ?? []).map(({ dtype, limits, nothing = null }, i) => {
      // Infinities, which JSON has not, are where floats are watched: NaN fails there as well.
      const ends = nothing?.every(Number.isFinite) === true ? nothing : null;
      return { dtype, limits, nothing: ends, ...standalone.checks[i] };
    }),
    updates: standalone.updates,
    random:
      standalone.randomAddress === null
        ? null
        : {
            address: standalone.randomAddress,
            blocks: blocksOfDraws(request),
            words: standalone.words,
          },
  };
  return `// ${JSON.stringify(request.name)} as WebAssembly. Made by Tengen.
//
//   import { load } from './${files.module.replace(/\.wasm$/, '')}.js';
//   const model = await load();
//   const { ${JSON.stringify(request.outputs[0]?.name ?? 'output')}: result } = model.run({ .. });

const FACTS = ${JSON.stringify(facts, null, 2)};

const ARRAYS = { ${Object.entries(ARRAYS)
    .map(([dtype, array]) => `${dtype}: ${array}`)
    .join(', ')} };

${body(files, standalone)}`;
}

function body({ module, weights }: LoaderFiles, standalone: StandaloneModule): string {
  const beside = weights !== null;
  return `async function bytesOf(source) {
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return source;
  if (typeof Response !== 'undefined' && source instanceof Response) return source.arrayBuffer();
  if (typeof Blob !== 'undefined' && source instanceof Blob) return source.arrayBuffer();
  const url = new URL(source, import.meta.url);
  if (url.protocol === 'file:') {
    const { readFile } = await import('node:fs/promises');
    return readFile(url);
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(\`\${url}: \${answer.status} \${answer.statusText}\`);
  return answer.arrayBuffer();
}

function describe({ name, dtype, shape }) {
  return \`\${name}: \${dtype} [\${shape.join(', ')}]\`;
}

function within(value, { least, above, below, except }) {
  if (except !== undefined && value === except) return true;
  if (least !== undefined && !(value >= least)) return false;
  return (above === undefined || value > above) && (below === undefined || value < below);
}

function limitsText({ least, above, below }) {
  const parts = [];
  if (least !== undefined) parts.push(\`at least \${least}\`);
  if (above !== undefined) parts.push(\`more than \${above}\`);
  if (below !== undefined) parts.push(\`less than \${below}\`);
  return parts.join(' and ');
}

/**
 * Loads the module${beside ? ' and its weights' : ''}. Sources are URLs (by default those of the files beside this one), responses,
 * blobs or bytes.
 */
export async function load(options = {}) {
  const { module = new URL('./${module}', import.meta.url)${beside ? `, weights = new URL('./${weights}', import.meta.url)` : ''} } = options;
${beside ? '  const [code, block] = await Promise.all([bytesOf(module), bytesOf(weights)]);' : '  const code = await bytesOf(module);'}
  const { instance } = await WebAssembly.instantiate(code, {});
  const { memory, run } = instance.exports;
${
  beside
    ? `  const given = ArrayBuffer.isView(block)
    ? new Uint8Array(block.buffer, block.byteOffset, block.byteLength)
    : new Uint8Array(block);
  if (given.length !== ${standalone.weights.length} || !HEADER.every((byte, i) => given[i] === byte)) {
    throw new RangeError(\`\${FACTS.name}: these are not the weights of this program (\${given.length} bytes, not ${standalone.weights.length})\`);
  }
  new Uint8Array(memory.buffer, ${standalone.weightsAddress}, given.length).set(given);
`
    : ''
}  return new Model(memory.buffer, run);
}
${beside ? `\n// The first bytes of the weights: they tell a layout from another.\nconst HEADER = [${standalone.weights.subarray(0, 24).join(', ')}];\n` : ''}
class Model {
  #buffer;
  #run;
  #next = 0n;

  constructor(buffer, run) {
    this.#buffer = buffer;
    this.#run = run;
  }

  get name() { return FACTS.name; }
  get numerics() { return FACTS.numerics; }
  get inputs() { return FACTS.inputs; }
  get outputs() { return FACTS.outputs; }

  #view({ dtype, address, size }) {
    return new ARRAYS[dtype](this.#buffer, address, size);
  }

  /** Runs the program once, on arrays by name; gives new arrays by name. */
  run(inputs) {
    for (const name of Object.keys(inputs)) {
      if (!FACTS.inputs.some((each) => each.name === name)) {
        throw new TypeError(\`\${FACTS.name} has no input '\${name}': \${FACTS.inputs.map(describe).join('; ') || 'none'}\`);
      }
    }
    for (const input of FACTS.inputs) this.#write(input, inputs[input.name]);
    this.#draw();
    this.#run();
    for (const { dtype, limits, nothing, least, most } of FACTS.checks) {
      const [low, high] = [least, most].map((address) => this.#view({ dtype, address, size: 1 })[0]);
      if (nothing !== null && low === nothing[0] && high === nothing[1]) continue;
      const wrong = [low, high].find((value) => !within(value, limits));
      if (wrong !== undefined) {
        throw new RangeError(\`\${FACTS.name}: \${wrong} is not \${limitsText(limits)}\`);
      }
    }
    this.#update();
    return Object.fromEntries(FACTS.outputs.map((output) => [output.name, this.#view(output).slice()]));
  }

  #write(input, given) {
    const { name, dtype, shape, size, address, also, limits } = input;
    const value = typeof given === 'number' && shape.length === 0 ? ARRAYS[dtype].of(given) : given;
    const kind = ARRAYS[dtype];
    if (!(value instanceof kind) || value.length !== size) {
      const found = ArrayBuffer.isView(value) ? \`\${value.constructor.name} of \${value.length}\` : String(value);
      throw new TypeError(\`\${FACTS.name}: input \${describe(input)} takes a \${kind.name} of \${size}, not \${found}\`);
    }
    const wrong = value.find((each) => !within(each, limits));
    if (wrong !== undefined) {
      throw new RangeError(\`\${FACTS.name}: \${wrong} in input \${name} is not \${limitsText(limits)}\`);
    }
    const addresses = address === null ? also : [address, ...also];
    for (const place of addresses) this.#view({ dtype, address: place, size }).set(value);
  }

  /** Writes the words that this run's random numbers are made of. */
  #draw() {
    if (FACTS.random === null) return;
    const { address, blocks, words } = FACTS.random;
    const state = new Uint32Array(this.#buffer, address, 4);
    let next = (BigInt(state[3]) << 32n) | BigInt(state[2]);
    const places = blocks.map((count) => {
      const place = [state[0], state[1], Number(next & 0xffffffffn), Number(next >> 32n)];
      next = BigInt.asUintN(64, next + BigInt(count));
      return place;
    });
    for (const each of words) {
      new Uint32Array(this.#buffer, each.address, 1)[0] = places[each.draw][each.word];
    }
    this.#next = next;
  }

  /** What weights become, once nothing has gone wrong; the next run draws others. */
  #update() {
    const bytes = new Uint8Array(this.#buffer);
    for (const { from, to, bytes: length } of FACTS.updates) bytes.copyWithin(to, from, from + length);
    if (FACTS.random === null) return;
    const state = new Uint32Array(this.#buffer, FACTS.random.address, 4);
    state[2] = Number(this.#next & 0xffffffffn);
    state[3] = Number(this.#next >> 32n);
  }

  /** Weights by name as they are now: views of the module's memory. What runs change, changes here. */
  get weights() {
    return Object.fromEntries(FACTS.weights.map((weight) => [weight.name, this.#view(weight)]));
  }
}
`;
}

/** The types of a loader. */
export function renderTypes(request: ExportRequest, files: LoaderFiles): string {
  const field = ({ name, dtype, shape }: ExportedTensor, scalars: boolean): string => {
    const number = scalars && shape.length === 0 ? 'number | ' : '';
    return `  /** ${dtype} [${shape.join(', ')}], ${sizeOf(shape) * byteSize(dtype)} bytes. */
  readonly ${JSON.stringify(name)}: ${number}${ARRAYS[dtype]};`;
  };
  const list = (tensors: readonly ExportedTensor[], scalars: boolean): string =>
    tensors.map((tensor) => field(tensor, scalars)).join('\n');
  return `// Made by Tengen.

export interface Inputs {
${list(request.inputs, true)}
}

export interface Outputs {
${list(request.outputs, false)}
}

export interface TensorFacts {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly size: number;
}

export type Source = string | URL | Response | Blob | ArrayBuffer | ArrayBufferView;

export interface LoadOptions {
  readonly module?: Source;
${files.weights === null ? '' : '  readonly weights?: Source;\n'}}

export interface Model {
  readonly name: string;
  readonly numerics: 'fast' | 'strict';
  readonly inputs: readonly TensorFacts[];
  readonly outputs: readonly TensorFacts[];
  /** Views of the module's memory, which runs of training steps change. */
  readonly weights: Readonly<Record<string, ArrayBufferView>>;
  /** Throws TypeError for names, arrays or sizes that are not those of the program, RangeError for indices. */
  run(inputs: Inputs): Outputs;
}

export function load(options?: LoadOptions): Promise<Model>;
`;
}

/** A script that runs the test cases: \`node NAME_test.js\`. */
export function renderCheck(request: ExportRequest, loader: string, tolerance: number): string {
  const { testCases = [] } = request;
  const encode = (bytes: Uint8Array): string => {
    let text = '';
    for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
    return text;
  };
  const cases = testCases.map(({ inputs, outputs }) => ({
    inputs: inputs.map(encode),
    outputs: outputs.map(encode),
  }));
  return `// Runs the test cases of ${JSON.stringify(request.name)}: ${cases.length} of them. Made by Tengen.
// Exit status 0 if all results are within the tolerance.
import { load } from './${loader}';

const CASES = ${JSON.stringify(cases)};
const TOLERANCE = ${tolerance};

${CHECK}`;
}

const CHECK = `const arrayOf = (dtype, hex) => {
  const bytes = Uint8Array.from({ length: hex.length / 2 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
  const kinds = { float32: Float32Array, float64: Float64Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, uint32: Uint32Array, float16: Uint16Array, bfloat16: Uint16Array };
  return new (kinds[dtype] ?? Uint8Array)(bytes.buffer);
};

const half = (bits) => {
  const [exponent, fraction, sign] = [(bits >> 10) & 31, bits & 1023, bits & 0x8000 ? -1 : 1];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
};
const brain = (bits) => new Float32Array(Uint32Array.of(bits << 16).buffer)[0];
const numberOf = { float16: half, bfloat16: brain };

const model = await load();
let worst = 0;
CASES.forEach((each, n) => {
  const given = model.inputs.map(({ name, dtype }, i) => [name, arrayOf(dtype, each.inputs[i])]);
  const results = model.run(Object.fromEntries(given));
  model.outputs.forEach(({ name, dtype }, i) => {
    const number = numberOf[dtype] ?? ((x) => x);
    const wanted = arrayOf(dtype, each.outputs[i]);
    let most = 0;
    let scale = 0;
    results[name].forEach((got, k) => {
      const [a, b] = [number(got), number(wanted[k])];
      const same = a === b || (Number.isNaN(a) && Number.isNaN(b));
      const apart = same ? 0 : Math.abs(a - b);
      most = Math.max(most, Number.isNaN(apart) ? Infinity : apart);
      if (Number.isFinite(b)) scale = Math.max(scale, Math.abs(b));
    });
    const relative = most === 0 ? 0 : scale === 0 ? Infinity : most / scale;
    worst = Math.max(worst, relative);
    console.log(\`case \${n}, \${name}: max difference \${most}, relative \${relative}\`);
  });
});
const passed = worst <= TOLERANCE;
console.log(\`max relative difference: \${worst} (tolerance \${TOLERANCE}): \${passed ? 'passed' : 'FAILED'}\`);
if (!passed) throw new Error('results differ');
`;

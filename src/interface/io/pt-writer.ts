// Writes state dicts that PyTorch loads, also with weights_only: a pickle of OrderedDict and tensors, and
// one member of bytes per tensor.
import type { DType } from '../../base/dtype.ts';
import { contiguousStrides, sizeOf } from '../../base/shape.ts';
import { type WritePart, checkPath, writeFileAtomically } from './atomic-file.ts';
import { type StateDict, checkStateDict } from './checkpoint.ts';
import { requireLittleEndian } from './elements.ts';
import { bytesOf } from './host-array.ts';
import { type Tensor, toHostArray } from './tensors.ts';
import { type ZipMember, collectParts, writeZip } from './zip-writer.ts';

/** The folder that all members lie in, as in files of PyTorch that were not given a name. */
const FOLDER = 'archive';
/** PyTorch's own alignment, which lets it map files into memory. */
const ALIGN = 64;

/** uint32 is widened: PyTorch has it only since 2.3, and few operations for it. */
const STORAGES: Readonly<Record<DType, string>> = {
  float64: 'DoubleStorage',
  float32: 'FloatStorage',
  float16: 'HalfStorage',
  bfloat16: 'BFloat16Storage',
  int32: 'IntStorage',
  int16: 'ShortStorage',
  int8: 'CharStorage',
  uint32: 'LongStorage',
  uint8: 'ByteStorage',
  bool: 'BoolStorage',
};

/** Collects a pickle of protocol 2. */
class PickleWriter {
  private readonly parts: number[] = [];

  code(...codes: readonly (string | number)[]): this {
    for (const code of codes) this.parts.push(typeof code === 'string' ? code.charCodeAt(0) : code);
    return this;
  }

  private u32(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.parts.push((value >>> shift) & 0xff);
  }

  global(module: string, name: string): this {
    this.code('c');
    for (const byte of new TextEncoder().encode(`${module}\n${name}\n`)) this.parts.push(byte);
    return this;
  }

  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    this.code('X');
    this.u32(bytes.byteLength);
    for (const byte of bytes) this.parts.push(byte);
    return this;
  }

  integer(value: number): this {
    if (value < 256) return this.code('K', value);
    if (value < 2 ** 31) {
      this.code('J');
      this.u32(value);
      return this;
    }
    // Eight bytes, little-endian; sizes are below 2^53, so the sign bit is free.
    this.code(0x8a, 8);
    this.u32(value % 2 ** 32);
    this.u32(Math.floor(value / 2 ** 32));
    return this;
  }

  integers(values: readonly number[]): this {
    this.code('(');
    for (const value of values) this.integer(value);
    return this.code('t');
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.parts);
  }
}

function writeTensor(writer: PickleWriter, value: Tensor, key: string): void {
  const { shape, dtype } = value;
  writer.global('torch._utils', '_rebuild_tensor_v2').code('(');
  writer.code('(').text('storage').global('torch', STORAGES[dtype]);
  writer.text(key).text('cpu').integer(sizeOf(shape)).code('t', 'Q');
  writer.integer(0).integers(shape).integers(contiguousStrides(shape));
  // No gradient is required, and there are no backward hooks.
  writer.code(0x89).global('collections', 'OrderedDict').code(')', 'R', 't', 'R');
}

function pickleOf(entries: readonly (readonly [string, Tensor])[]): Uint8Array {
  const writer = new PickleWriter();
  writer.code(0x80, 2).global('collections', 'OrderedDict').code(')', 'R', '(');
  for (const [index, [name, value]] of entries.entries()) {
    writer.text(name);
    writeTensor(writer, value, String(index));
  }
  return writer.code('u', '.').bytes();
}

async function storageBytes(value: Tensor): Promise<Uint8Array> {
  const { data, dtype } = await toHostArray(value);
  if (dtype !== 'uint32') return bytesOf(data);
  return bytesOf(
    Uint32Array.from({ length: 2 * data.length }, (_, i) => (i & 1 ? 0 : (data[i >> 1] ?? 0))),
  );
}

async function writeState(write: WritePart, op: string, state: StateDict): Promise<void> {
  requireLittleEndian();
  const entries = checkStateDict(op, state);
  const member = (name: string, content: ZipMember['content']): ZipMember => ({
    name: `${FOLDER}/${name}`,
    content,
  });
  const members = [
    member('data.pkl', () => pickleOf(entries)),
    member('byteorder', () => new TextEncoder().encode('little')),
    ...entries.map(([, value], index) => member(`data/${index}`, () => storageBytes(value))),
    member('version', () => new TextEncoder().encode('3\n')),
  ];
  await writeZip(write, op, members, { align: ALIGN });
}

/**
 * Writes a state dict as a PyTorch file, atomically: `torch.load(path)` gives an OrderedDict of tensors
 * on the CPU. uint32 becomes int64.
 *
 * @throws ArgumentError beyond 4 GiB: write those as safetensors, with {@link save}.
 * @example sketch: the model is the reader's
 * await savePt('model.pt', model.stateDict());
 */
export async function savePt(path: string | URL, state: StateDict): Promise<void> {
  checkPath(path, 'savePt(path, state)');
  await writeFileAtomically(path, (write) => writeState(write, 'savePt', state));
}

/**
 * The bytes {@link savePt} would write.
 *
 * @example
 * const bytes = await serializePt({ w: tensor([1, 2]) });
 * [...(await io.load(bytes)).keys()]; // => ['w']
 */
export async function serializePt(state: StateDict): Promise<Uint8Array> {
  return collectParts((write) => writeState(write, 'serializePt', state));
}

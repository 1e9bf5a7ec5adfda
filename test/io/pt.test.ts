// PyTorch's files: all dtypes and views, checkpoints, old formats; what is no data is refused by name.
import '../../src/index.ts';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { ArgumentError, DisposedError, FormatError } from '../../src/base/errors.ts';
import { memorySource } from '../../src/interface/io/byte-source.ts';
import { Cursor } from '../../src/interface/io/cursor.ts';
import { readPickle } from '../../src/interface/io/pickle.ts';
import { PtHost } from '../../src/interface/io/pt-host.ts';
import { PtFile, readPt } from '../../src/interface/io/pt.ts';
import { serializePt } from '../../src/interface/io/pt-writer.ts';
import { isTensor } from '../../src/interface/io/tensors.ts';
import { load } from '../../src/interface/io/weights.ts';
import { ZipArchive } from '../../src/interface/io/zip.ts';
import { collectParts, writeZip } from '../../src/interface/io/zip-writer.ts';
import { tensor, zeros } from '../../src/interface/tensor/index.ts';
import { expectArray, fixturePath, readExpected, readFixture } from './fixtures.ts';

const expected = readExpected('state.json');

/** The members of an archive, for building others. */
async function membersOf(bytes: Uint8Array): Promise<Map<string, Uint8Array>> {
  const archive = await ZipArchive.open(memorySource(bytes));
  const members = new Map<string, Uint8Array>();
  for (const [name, entry] of archive.entries) members.set(name, await archive.read(entry));
  return members;
}

function archiveOf(
  members: ReadonlyMap<string, Uint8Array>,
  compress = false,
): Promise<Uint8Array> {
  const list = Array.from(members, ([name, bytes]) => ({ name, content: () => bytes }));
  return collectParts((write) => writeZip(write, 'test', list, { compress }));
}

describe('state dicts of PyTorch', () => {
  it.each(['state.pt', 'state-legacy.pt'])('%s holds what PyTorch saved', async (name) => {
    const file = await PtFile.open(fixturePath(name));
    expect([...file.tensors.keys()]).toEqual([...expected.keys()]);
    for (const [key, array] of expected) {
      const read = await file.read(key);
      expectArray(read, array);
      expect(file.tensors.get(key)).toMatchObject({ dtype: read.dtype, shape: read.shape });
    }
    await file.close();
    await file.close();
    await expect(file.read('half')).rejects.toThrow(DisposedError);
  });

  it('reads compressed archives, whose parts cannot be mapped', async () => {
    const bytes = await archiveOf(await membersOf(readFixture('state.pt')), true);
    const file = await PtFile.open(bytes);
    for (const [key, array] of expected) expectArray(await file.read(key), array);
  });

  it('reads only the range of a view', async () => {
    const bytes = readFixture('state.pt');
    const reads: [number, number][] = [];
    const source = memorySource(bytes);
    const spying = {
      ...source,
      read: (offset: number, length: number) => {
        reads.push([offset, length]);
        return source.read(offset, length);
      },
    };
    const file = await PtFile.open(spying);
    reads.length = 0;
    await file.read('row');
    // The header of the member, then the 4 floats of the row.
    expect(reads.map(([, length]) => length)).toEqual([30, 16]);
  });

  it('names what there is if a name is wrong', async () => {
    const file = await PtFile.open(readFixture('state.pt'));
    await expect(file.read('conv.wieght')).rejects.toThrow(ArgumentError);
    await expect(file.read('conv.wieght')).rejects.toThrow('hint: it has conv.weight, conv.bias');
  });

  it('int64 out of range is an error, not another number', async () => {
    await expect(load(readFixture('wide.pt'))).rejects.toThrow(
      "tensor 'big': element 1 is 1099511627776, outside int32",
    );
  });
});

describe('checkpoints of PyTorch', () => {
  const names = ['checkpoint.pt', 'checkpoint-protocol4.pt', 'checkpoint-legacy.pt'];

  it.each(names)('%s is read as a tree', async (name) => {
    const tree = await readPt(fixturePath(name));
    if (!(tree instanceof Map)) throw new Error('no dict');
    expect(tree.get('epoch')).toBe(3);
    expect(tree.get('best')).toBe(0.5);
    expect(tree.get('big')).toBe(2n ** 70n);
    expect(tree.get('name')).toBe('naïve');
    expect(tree.get('sizes')).toEqual([
      [2, 3],
      [1, null, true],
      [1, 2],
    ]);
    expect(tree.get('device')).toBe('cuda:1');
    expect(tree.get('dtype')).toBe('torch.float16');
    expect(tree.get('raw')).toEqual(Uint8Array.of(0, 255));
    expect(tree.get('scheduler')).toEqual(new Map([['milestones', new Map([[2, 1], [4, 1]])]])); // prettier-ignore
    const optimizer = tree.get('optimizer');
    if (!(optimizer instanceof Map)) throw new Error('no dict');
    const state = (optimizer.get('state') as Map<number, Map<string, unknown>>).get(0);
    const average = state?.get('exp_avg');
    if (!isTensor(average)) throw new Error('no tensor');
    expect(await average.array()).toEqual([[Math.fround(0.1), Math.fround(0.1)]]);
  });

  it.each(names)('%s has a state dict at a key', async (name) => {
    const state = await load(readFixture(name), { key: 'model' });
    expect([...state.keys()]).toEqual(['weight', 'bias']);
    expect(state.get('weight')?.shape).toEqual([1, 2]);
  });

  it('a checkpoint taken for a state dict says what to do', async () => {
    const bytes = readFixture('checkpoint.pt');
    await expect(load(bytes)).rejects.toThrow("hint: pass { key: 'model' } to take that part");
    await expect(load(bytes, { key: 'modle' })).rejects.toThrow("nothing at 'modle'");
    await expect(load(bytes, { key: 'epoch' })).rejects.toThrow(
      "'epoch' holds 3, not a state dict",
    );
    await expect(PtFile.open(bytes, { part: 'model' } as object)).rejects.toThrow(ArgumentError);
  });
});

describe('what is no data', () => {
  afterEach(() => vi.restoreAllMocks());

  it.each(['command.pt', 'command-legacy.pt'])(
    '%s is refused by the name it calls',
    async (name) => {
      const log = vi.spyOn(console, 'log');
      for (const open of [load, readPt]) {
        const error = await open(fixturePath(name)).catch((e: unknown) => e);
        expect(error).toBeInstanceOf(FormatError);
        expect((error as FormatError).message).toContain(
          "'posix.system', which is not read (at byte",
        );
        expect((error as FormatError).message).toContain('nothing is executed');
      }
      expect(log).not.toHaveBeenCalled();
    },
  );

  it.each([
    ['module.pt', "'torch.nn.modules.linear.Linear', which is not read"],
    ['complex.pt', 'a tensor is torch.complex64, which is not supported'],
    ['script.pt', 'this is a TorchScript program'],
    ['arrays.npz', 'a ZIP archive without the data.pkl of PyTorch (it has f4.npy'],
    ['tensors.gguf', 'this is not a file of PyTorch'],
  ])('%s: %s', async (name, message) => {
    await expect(PtFile.open(readFixture(name))).rejects.toThrow(FormatError);
    await expect(PtFile.open(readFixture(name))).rejects.toThrow(message);
  });

  /** Text of opcodes to the error they give. */
  async function pickleError(text: string | Uint8Array): Promise<string> {
    const bytes = typeof text === 'string' ? Uint8Array.from(text, (c) => c.charCodeAt(0)) : text;
    try {
      readPickle(new Cursor(bytes), new PtHost());
    } catch (error) {
      if (error instanceof FormatError) return error.message;
      throw error;
    }
    return 'accepted';
  }

  it.each([
    ['', 'a pickle without an end of 1 bytes, 0 are left'],
    ['.', 'ends with 0 values'],
    ['NN.', 'ends with 2 values'],
    ['0', 'from an empty stack'],
    ['N(0', 'from an empty stack'],
    ['Nt', 'closes a group it did not open'],
    ['(N.', 'ends within a group'],
    ['h\x05', 'recalls entry 5'],
    ['NNa', 'appends to None'],
    ['}(Nu', 'sets an item without a value'],
    ['}(]Nu', 'a dict has a list of 0 as key'],
    ['N)R', 'the pickle calls None'],
    ['ccollections\nOrderedDict\nNR', 'calls collections.OrderedDict with None'],
    ['c__builtin__\neval\n', "'__builtin__.eval'"],
    ['cbuiltins\ngetattr\n', "'builtins.getattr'"],
    ['(ios\nsystem\n', "'os.system'"],
    ['ibuiltins\nlist\n', 'makes an instance'],
    ['\x8c\x02os\x8c\x06system\x93', "'os.system'"],
    ['NN\x93', 'a name is no string'],
    ['\x82\x01', 'EXT1'],
    ['NNN\x92', 'NEWOBJ_EX'],
    ['NQ', 'a reference to nothing'],
    ['P7\n', 'a reference to nothing'],
    ['\x80\x09', 'protocol 9'],
    ['\xff', 'byte 0xff is no opcode'],
    ['X\xff\xff\xff\xff', 'a string of 4294967295 bytes'],
    ['\x8d\xff\xff\xff\xff\xff\xff\xff\xff', 'a length of'],
    ['\x8b\xff\xff\xff\x7f', 'an integer of 2147483647 bytes'],
    ['I12x\n', "'12x' is no integer"],
    ['F0x1\n', "'0x1' is no number"],
    ['S12\n', 'a string without quotes'],
    ['U\x01\xff', 'a string is not UTF-8'],
    [']Nb', 'sets attributes of a list'],
    ['Fno end', 'a line of the pickle does not end'],
  ])('%j: %s', async (text, message) => {
    expect(await pickleError(text)).toContain(message);
  });

  it('a pickle that copies a list again and again is stopped', async () => {
    const list = `](${'N'.repeat(1000)}eq\x00`;
    const copies = 'cbuiltins\nlist\n(h\x00tR'.repeat(100);
    expect(await pickleError(`${list}${copies}`)).toContain('copies its contents over and over');
  });

  it('deep and cyclic trees are refused, shared ones stay shared', async () => {
    const wrap = async (pickle: string): Promise<Uint8Array> => {
      const members = new Map([
        ['x/data.pkl', Uint8Array.from(pickle, (c) => c.charCodeAt(0))],
        ['x/version', Uint8Array.of(0x33)],
      ]);
      return archiveOf(members);
    };
    const deep = `${'('.repeat(5000)}N${'l'.repeat(5000)}.`;
    await expect(readPt(await wrap(deep))).rejects.toThrow('nests deeper than 100');
    await expect(readPt(await wrap(']q\x00h\x00a.'))).rejects.toThrow('contains itself');
    // Each list holds the one before twice: 2^60 leaves, if they were not shared.
    let laughs = ']q\x00';
    for (let i = 1; i <= 60; i++) {
      const before = `h${String.fromCharCode(i - 1)}`;
      laughs += `0](${before}${before}eq${String.fromCharCode(i)}`;
    }
    let tree = await readPt(await wrap(`${laughs}.`));
    for (let depth = 0; depth < 60; depth++) {
      if (!Array.isArray(tree)) throw new Error('no list');
      expect(tree[0]).toBe(tree[1]);
      tree = tree[0] as typeof tree;
    }
  });

  it('text opcodes of protocol 0 are read', () => {
    const text =
      "(lp0\nI5\naL12345678901234567890L\naF-2.5e3\naFnan\naS'a\\x41\\n'\naV\\u00e9\nag0\n0I01\na.";
    const value = readPickle(
      new Cursor(Uint8Array.from(text, (c) => c.charCodeAt(0))),
      new PtHost(),
    );
    expect(value).toEqual([5, 12345678901234567890n, -2500, NaN, 'aA\n', 'é', true]);
  });

  it('views that overlap do not make a small file large', async () => {
    const members = await membersOf(readFixture('state.pt'));
    const name = [...members.keys()].find((key) => key.endsWith('data.pkl')) as string;
    const pickle = members.get(name) as Uint8Array;
    const text = String.fromCharCode(...pickle);
    // The size of the expanded tensor, (2, 5), as (2, 2^30).
    const damaged = text.replace('K\x02K\x05\x86', 'K\x02J\x00\x00\x00\x40\x86');
    expect(damaged).not.toBe(text);
    members.set(
      name,
      Uint8Array.from(damaged, (c) => c.charCodeAt(0)),
    );
    const file = await archiveOf(members);
    await expect(load(file)).rejects.toThrow('their views overlap');
    await expect(readPt(file)).rejects.toThrow('their views overlap');
  });

  it('a storage that is missing or short is found when the file is opened', async () => {
    const members = await membersOf(readFixture('state.pt'));
    const [name = ''] = [...members.keys()].filter((key) => key.endsWith('/data/0'));
    members.set(name, new Uint8Array(8));
    await expect(load(await archiveOf(members))).rejects.toThrow("storage '0' of 72 bytes has 8");
    members.delete(name);
    await expect(load(await archiveOf(members))).rejects.toThrow('is missing in the file');
  });

  it('another byte order is refused', async () => {
    const members = await membersOf(await serializePt({ x: zeros([1]) }));
    members.set('archive/byteorder', new TextEncoder().encode('big'));
    await expect(load(await archiveOf(members))).rejects.toThrow("byte order 'big'");
  });
});

describe('writing', () => {
  it('what is written is read back, with dtypes', async () => {
    const state = {
      'a.weight': tensor([[1, 2], [3, 4.5]]), // prettier-ignore
      half: tensor([1, -2], { dtype: 'float16' }),
      bfloat: tensor([1, -2], { dtype: 'bfloat16' }),
      double: tensor([1 / 3], { dtype: 'float64' }),
      long: tensor([0, 2 ** 31 - 1], { dtype: 'uint32' }),
      flag: tensor([true, false]),
      scalar: tensor(5),
      empty: zeros([0, 3]),
    };
    const read = await load(await serializePt(state));
    expect([...read.keys()]).toEqual(Object.keys(state));
    for (const [name, value] of Object.entries(state)) {
      const back = read.get(name);
      // PyTorch has no uint32, so it went out as int64, which is narrowed to int32.
      expect(back?.dtype).toBe(value.dtype === 'uint32' ? 'int32' : value.dtype);
      expect(await back?.array()).toEqual(await value.array());
    }
  });

  it('only tensors are written', async () => {
    await expect(serializePt({ x: 5 } as object as Record<string, never>)).rejects.toThrow(
      "'x' is not a Tensor",
    );
  });
});

// What names mean in PyTorch's pickles: the list of everything that may stand in a file of weights.
import { FILE_DTYPE_INFO, type FileDType } from './safetensors-header.ts';
import {
  type PickleContext,
  PickleDict,
  PickleFunction,
  type PickleHost,
  type PickleKey,
  PickleObject,
  PickleSet,
  PickleTuple,
  type PickleValue,
  describePickle,
} from './pickle-values.ts';

/** An element type, `torch.float32` or the like; `fileDType` is undefined if it is not supported. */
class ElementType extends PickleObject {
  readonly kind: string;
  readonly fileDType: FileDType | undefined;
  constructor(kind: string, fileDType: FileDType | undefined) {
    super();
    this.kind = kind;
    this.fileDType = fileDType;
  }
}

/** A class of storages: its element type, or `undefined` for plain bytes. */
class StorageClass extends PickleObject {
  readonly kind: string;
  readonly element: ElementType | undefined;
  constructor(kind: string, element: ElementType | undefined) {
    super();
    this.kind = kind;
    this.element = element;
  }
}

/** A block of memory that tensors are views of; its bytes lie elsewhere in the file. */
export class PtStorage extends PickleObject {
  readonly kind = 'a storage';
  /** Name of the bytes in the file. */
  readonly key: string;
  readonly byteLength: number;
  /** First byte within those of `key`. */
  readonly byteOffset: number;
  /** Undefined for plain bytes. */
  readonly element: ElementType | undefined;
  constructor(
    key: string,
    byteOffset: number,
    byteLength: number,
    element: ElementType | undefined,
  ) {
    super();
    this.key = key;
    this.byteOffset = byteOffset;
    this.byteLength = byteLength;
    this.element = element;
  }
}

/** A view of a storage. Sizes, strides and offset count elements. */
export class PtTensor extends PickleObject {
  readonly kind = 'a tensor';
  readonly storage: PtStorage;
  readonly fileDType: FileDType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
  constructor(
    storage: PtStorage,
    fileDType: FileDType,
    view: {
      readonly shape: readonly number[];
      readonly strides: readonly number[];
      readonly offset: number;
    },
  ) {
    super();
    this.storage = storage;
    this.fileDType = fileDType;
    this.shape = view.shape;
    this.strides = view.strides;
    this.offset = view.offset;
  }
}

const MAX_RANK = 64;

const ELEMENTS: readonly (readonly [
  names: readonly string[],
  storage: string | undefined,
  FileDType | undefined,
])[] = [
  [['float32', 'float'], 'FloatStorage', 'F32'],
  [['float64', 'double'], 'DoubleStorage', 'F64'],
  [['float16', 'half'], 'HalfStorage', 'F16'],
  [['bfloat16'], 'BFloat16Storage', 'BF16'],
  [['int64', 'long'], 'LongStorage', 'I64'],
  [['int32', 'int'], 'IntStorage', 'I32'],
  [['int16', 'short'], 'ShortStorage', 'I16'],
  [['int8'], 'CharStorage', 'I8'],
  [['uint8'], 'ByteStorage', 'U8'],
  [['bool'], 'BoolStorage', 'BOOL'],
  [['uint16'], undefined, 'U16'],
  [['uint32'], undefined, 'U32'],
  [['uint64'], undefined, 'U64'],
  [['complex32', 'chalf'], undefined, undefined],
  [['complex64', 'cfloat'], 'ComplexFloatStorage', undefined],
  [['complex128', 'cdouble'], 'ComplexDoubleStorage', undefined],
  [['qint8'], 'QInt8Storage', undefined],
  [['quint8'], 'QUInt8Storage', undefined],
  [['qint32'], 'QInt32Storage', undefined],
  [['quint4x2'], 'QUInt4x2Storage', undefined],
  [['float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz'], undefined, undefined],
];

/** A list of sizes or strides: integers of at least 0. */
function integersOf(
  value: PickleValue | undefined,
  context: PickleContext,
  what: string,
): number[] {
  if (!(value instanceof PickleTuple) || value.items.length > MAX_RANK) {
    return context.fail(`${what} are ${describePickle(value)}`);
  }
  return value.items.map((item) => integerOf(item, context, what));
}

function integerOf(value: PickleValue | undefined, context: PickleContext, what: string): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  return context.fail(`${what}: expected an integer of at least 0, got ${describePickle(value)}`);
}

/** `_rebuild_tensor_v2(storage, offset, size, stride, ...)`; v3 names the element type at the seventh. */
function rebuildTensor(args: readonly PickleValue[], context: PickleContext): PtTensor {
  const [storage, first, size, stride] = args;
  if (!(storage instanceof PtStorage)) {
    return context.fail(`a tensor is a view of ${describePickle(storage)}`);
  }
  const given = args[6];
  const element = given instanceof ElementType ? given : storage.element;
  const { fileDType } = element ?? {};
  if (element === undefined) return context.fail('a tensor without an element type');
  if (fileDType === undefined) {
    return context.fail(`a tensor is ${element.kind}, which is not supported`);
  }
  const offset = integerOf(first, context, 'the offset of a tensor');
  const shape = integersOf(size, context, 'the sizes of a tensor');
  const strides = integersOf(stride, context, 'the strides of a tensor');
  if (strides.length !== shape.length) {
    return context.fail(`a tensor has ${shape.length} sizes and ${strides.length} strides`);
  }
  let extent = shape.includes(0) ? 0 : 1;
  let count = 1;
  for (const [axis, length] of shape.entries()) {
    count *= length;
    if (extent > 0) extent += (length - 1) * (strides[axis] ?? 0);
  }
  const itemSize = FILE_DTYPE_INFO[fileDType].bytes;
  // An empty view may start anywhere.
  if (extent > 0 && (offset + extent) * itemSize > storage.byteLength) {
    return context.fail(
      `a tensor of [${shape.join(',')}] reaches beyond its storage of ${storage.byteLength} bytes`,
    );
  }
  if (!Number.isSafeInteger(count * itemSize)) context.fail('the size of a tensor overflows');
  if (storage.byteOffset % itemSize !== 0) context.fail('a storage is not aligned');
  return new PtTensor(storage, fileDType, { shape, strides, offset });
}

/** `_rebuild_parameter(tensor, ...)` and its like give their first argument. */
function firstTensor(args: readonly PickleValue[], context: PickleContext): PtTensor {
  const [tensor] = args;
  if (tensor instanceof PtTensor) return tensor;
  return context.fail(`a parameter is made of ${describePickle(tensor)}`);
}

function itemsOf(value: PickleValue | undefined, context: PickleContext): readonly PickleValue[] {
  if (value === undefined) return [];
  let items: readonly PickleValue[];
  if (Array.isArray(value)) items = value;
  else if (value instanceof PickleTuple || value instanceof PickleSet) ({ items } = value);
  else return context.fail(`a container is made of ${describePickle(value)}`);
  context.spend(items.length);
  return items;
}

/** A dict from nothing, from another dict, or from pairs. */
function dictOf(args: readonly PickleValue[], context: PickleContext): PickleDict {
  const dict = new PickleDict();
  const [given] = args;
  if (given instanceof PickleDict) {
    context.spend(given.items.size);
    for (const [key, value] of given.items) dict.items.set(key, value);
    return dict;
  }
  for (const pair of itemsOf(given, context)) {
    const [key, value] = itemsOf(pair, context);
    if (value === undefined || (typeof key === 'object' && key !== null)) {
      return context.fail(`a dict is made of ${describePickle(pair)}`);
    }
    dict.items.set(key as PickleKey, value);
  }
  return dict;
}

/** `_codecs.encode(text, 'latin1')`: how protocol 2 writes bytes. */
function encode(args: readonly PickleValue[], context: PickleContext): PickleValue {
  const [text, codec] = args;
  if (typeof text !== 'string' || codec !== 'latin1') {
    return context.fail(`bytes are made of ${describePickle(text)} by ${describePickle(codec)}`);
  }
  context.spend(text.length);
  return Uint8Array.from(text, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? code : context.fail('bytes are made of a string that has others');
  });
}

/** `torch.device('cuda', 1)` as 'cuda:1'. */
function device(args: readonly PickleValue[], context: PickleContext): string {
  const [type, index] = args;
  if (typeof type !== 'string') return context.fail(`a device is ${describePickle(type)}`);
  return index === undefined ? type : `${type}:${integerOf(index, context, 'a device')}`;
}

const builtins: readonly (readonly [string, PickleFunction['call']])[] = [
  ['list', (args, context) => [...itemsOf(args[0], context)]],
  ['tuple', (args, context) => new PickleTuple([...itemsOf(args[0], context)])],
  ['set', (args, context) => setOf(args, context)],
  ['frozenset', (args, context) => setOf(args, context)],
  ['dict', dictOf],
];

function setOf(args: readonly PickleValue[], context: PickleContext): PickleSet {
  const set = new PickleSet();
  for (const item of itemsOf(args[0], context)) set.items.push(item);
  return set;
}

const FUNCTIONS: readonly (readonly [name: string, call: PickleFunction['call']])[] = [
  ...builtins.map(([name, call]) => [`builtins.${name}`, call] as const),
  ...builtins.map(([name, call]) => [`__builtin__.${name}`, call] as const),
  ['collections.OrderedDict', dictOf],
  ['collections.Counter', dictOf],
  // The first argument makes missing values, which nobody asks for here.
  ['collections.defaultdict', (args, context) => dictOf(args.slice(1), context)],
  ['_codecs.encode', encode],
  ['torch.Size', (args, context) => new PickleTuple([...itemsOf(args[0], context)])],
  ['torch.device', device],
  ['torch._utils._rebuild_tensor', rebuildTensor],
  ['torch._utils._rebuild_tensor_v2', rebuildTensor],
  ['torch._utils._rebuild_tensor_v3', rebuildTensor],
  ['torch._utils._rebuild_parameter', firstTensor],
  ['torch._utils._rebuild_parameter_with_state', firstTensor],
];

const NAMES: ReadonlyMap<string, PickleValue> = makeNames();

function makeNames(): ReadonlyMap<string, PickleValue> {
  const names = new Map<string, PickleValue>(
    FUNCTIONS.map(([name, call]) => [name, new PickleFunction(name, call)]),
  );
  for (const [dtypes, storage, fileDType] of ELEMENTS) {
    const element = new ElementType(`torch.${dtypes[0]}`, fileDType);
    for (const dtype of dtypes) names.set(`torch.${dtype}`, element);
    if (storage === undefined) continue;
    for (const module of ['torch', 'torch.cuda']) {
      names.set(`${module}.${storage}`, new StorageClass(`torch.${storage}`, element));
    }
  }
  const bytes = new StorageClass('torch.UntypedStorage', undefined);
  for (const name of ['torch.storage.UntypedStorage', 'torch.UntypedStorage']) {
    names.set(name, bytes);
  }
  return names;
}

/** Bytes that the file has under a storage's key; `undefined` if there are none. */
export type StorageSize = (key: string) => number | undefined;

/** The host for one file. `sizeOfKey` is asked for each storage; without it, sizes are checked later. */
export class PtHost implements PickleHost {
  readonly hint =
    'only tensors and plain containers are read and nothing is executed: in Python, torch.save(model.state_dict(), path)';
  /** Storages by key, each as it was first described. */
  readonly storages = new Map<string, PtStorage>();
  private readonly sizeOfKey: StorageSize | undefined;

  constructor(sizeOfKey?: StorageSize) {
    this.sizeOfKey = sizeOfKey;
  }

  find(module: string, name: string): PickleValue | undefined {
    return NAMES.get(`${module}.${name}`);
  }

  /** `('storage', class, key, device, count)`, in old files followed by `None` or a view. */
  persistent(id: PickleValue, context: PickleContext): PickleValue {
    const parts = id instanceof PickleTuple ? id.items : [];
    const [word, type, key, , count, view] = parts;
    if (word !== 'storage' || !(type instanceof StorageClass) || typeof key !== 'string') {
      return context.fail(`a reference to ${describePickle(word)}`, this.hint);
    }
    const itemSize = this.itemSize(type, context);
    const byteLength = integerOf(count, context, 'the size of a storage') * itemSize;
    if (!Number.isSafeInteger(byteLength)) context.fail('the size of a storage overflows');
    const storage = this.declare(key, byteLength, type, context);
    if (view === undefined || view === null) return storage;
    const [, first, length] = view instanceof PickleTuple ? view.items : [];
    const offset = integerOf(first, context, 'the offset of a storage') * itemSize;
    const size = integerOf(length, context, 'the size of a storage') * itemSize;
    if (offset + size > byteLength) context.fail('a view of a storage reaches beyond it');
    return new PtStorage(key, offset, size, type.element);
  }

  private itemSize(type: StorageClass, context: PickleContext): number {
    const { element } = type;
    if (element === undefined) return 1;
    if (element.fileDType !== undefined) return FILE_DTYPE_INFO[element.fileDType].bytes;
    return context.fail(`a tensor is ${element.kind}, which is not supported`);
  }

  private declare(
    key: string,
    byteLength: number,
    type: StorageClass,
    context: PickleContext,
  ): PtStorage {
    const known = this.storages.get(key);
    if (known !== undefined) {
      if (known.byteLength !== byteLength) context.fail(`two sizes of storage '${key}'`);
      return known.element === type.element
        ? known
        : new PtStorage(key, 0, byteLength, type.element);
    }
    const there = this.sizeOfKey?.(key);
    if (this.sizeOfKey !== undefined && (there === undefined || there < byteLength)) {
      const has = there === undefined ? 'is missing' : `has ${there}`;
      context.fail(`storage '${key.slice(0, 100)}' of ${byteLength} bytes ${has} in the file`);
    }
    const storage = new PtStorage(key, 0, byteLength, type.element);
    this.storages.set(key, storage);
    return storage;
  }
}

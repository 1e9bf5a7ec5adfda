// The messages of an ONNX file: their shapes, and for each one table of fields that reads and writes it.
import { type Draft, MessageCodec } from './codec.ts';

export type { Draft };

export interface StringStringEntry {
  key?: string;
  value?: string;
}

export interface OperatorSetId {
  domain?: string;
  version?: number;
}

export interface TensorProto {
  dims: readonly number[];
  dataType?: number;
  segment?: TensorSegment;
  floatData: Float32Array;
  int32Data: Int32Array;
  stringData: readonly Uint8Array[];
  int64Data: BigInt64Array;
  name?: string;
  docString?: string;
  rawData?: Uint8Array;
  externalData: readonly StringStringEntry[];
  dataLocation?: number;
  doubleData: Float64Array;
  uint64Data: BigUint64Array;
  metadataProps: readonly StringStringEntry[];
}

export interface TensorSegment {
  begin?: number;
  end?: number;
}

export interface SparseTensorProto {
  values?: TensorProto;
  indices?: TensorProto;
  dims: readonly number[];
}

export interface DimensionProto {
  dimValue?: number;
  dimParam?: string;
  denotation?: string;
}

export interface TensorShapeProto {
  dim: readonly DimensionProto[];
}

export interface TensorTypeProto {
  elemType?: number;
  shape?: TensorShapeProto;
}

export interface MapTypeProto {
  keyType?: number;
  valueType?: TypeProto;
}

export interface ElementTypeProto {
  elemType?: TypeProto;
}

export interface OpaqueTypeProto {
  domain?: string;
  name?: string;
}

export interface TypeProto {
  tensorType?: TensorTypeProto;
  sequenceType?: ElementTypeProto;
  mapType?: MapTypeProto;
  denotation?: string;
  opaqueType?: OpaqueTypeProto;
  sparseTensorType?: TensorTypeProto;
  optionalType?: ElementTypeProto;
}

export interface ValueInfoProto {
  name?: string;
  type?: TypeProto;
  docString?: string;
  metadataProps: readonly StringStringEntry[];
}

export interface AttributeProto {
  name?: string;
  f?: number;
  i?: bigint;
  s?: Uint8Array;
  t?: TensorProto;
  g?: GraphProto;
  floats: Float32Array;
  ints: BigInt64Array;
  strings: readonly Uint8Array[];
  tensors: readonly TensorProto[];
  graphs: readonly GraphProto[];
  docString?: string;
  tp?: TypeProto;
  typeProtos: readonly TypeProto[];
  type?: number;
  refAttrName?: string;
  sparseTensor?: SparseTensorProto;
  sparseTensors: readonly SparseTensorProto[];
}

export interface NodeProto {
  input: readonly string[];
  output: readonly string[];
  name?: string;
  opType?: string;
  attribute: readonly AttributeProto[];
  docString?: string;
  domain?: string;
  overload?: string;
  metadataProps: readonly StringStringEntry[];
}

export interface TensorAnnotation {
  tensorName?: string;
  quantParameterTensorNames: readonly StringStringEntry[];
}

export interface GraphProto {
  node: readonly NodeProto[];
  name?: string;
  initializer: readonly TensorProto[];
  docString?: string;
  input: readonly ValueInfoProto[];
  output: readonly ValueInfoProto[];
  valueInfo: readonly ValueInfoProto[];
  quantizationAnnotation: readonly TensorAnnotation[];
  sparseInitializer: readonly SparseTensorProto[];
  metadataProps: readonly StringStringEntry[];
}

export interface FunctionProto {
  name?: string;
  input: readonly string[];
  output: readonly string[];
  attribute: readonly string[];
  node: readonly NodeProto[];
  docString?: string;
  opsetImport: readonly OperatorSetId[];
  domain?: string;
  attributeProto: readonly AttributeProto[];
  valueInfo: readonly ValueInfoProto[];
  overload?: string;
  metadataProps: readonly StringStringEntry[];
}

export interface ModelProto {
  irVersion?: number;
  producerName?: string;
  producerVersion?: string;
  domain?: string;
  modelVersion?: bigint;
  docString?: string;
  graph?: GraphProto;
  opsetImport: readonly OperatorSetId[];
  metadataProps: readonly StringStringEntry[];
  functions: readonly FunctionProto[];
}

export interface SequenceProto {
  name?: string;
  elemType?: number;
  tensorValues: readonly TensorProto[];
  sparseTensorValues: readonly SparseTensorProto[];
  sequenceValues: readonly SequenceProto[];
  optionalValues: readonly OptionalProto[];
}

export interface OptionalProto {
  name?: string;
  elemType?: number;
  tensorValue?: TensorProto;
  sparseTensorValue?: SparseTensorProto;
  sequenceValue?: SequenceProto;
  optionalValue?: OptionalProto;
}

/** What `AttributeProto.type` says: which of its fields holds the value. */
export const ATTRIBUTE_TYPE = {
  float: 1,
  int: 2,
  string: 3,
  tensor: 4,
  graph: 5,
  floats: 6,
  ints: 7,
  strings: 8,
  tensors: 9,
  graphs: 10,
  sparseTensor: 11,
  sparseTensors: 12,
  type: 13,
  types: 14,
} as const;

/** `TensorProto.dataLocation` of a tensor whose values stand in another file. */
export const EXTERNAL = 1;

const stringEntry = new MessageCodec<StringStringEntry>('StringStringEntryProto', {
  key: [1, 'string'],
  value: [2, 'string'],
});

const operatorSet = new MessageCodec<OperatorSetId>('OperatorSetIdProto', {
  domain: [1, 'string'],
  version: [2, 'size'],
});

const segment = new MessageCodec<TensorSegment>('TensorProto.Segment', {
  begin: [1, 'size'],
  end: [2, 'size'],
});

export const tensorProto: MessageCodec<TensorProto> = new MessageCodec<TensorProto>('TensorProto', {
  dims: [1, ['size']],
  dataType: [2, 'int32'],
  segment: [3, () => segment],
  floatData: [4, 'floats', 'packed'],
  int32Data: [5, 'int32s', 'packed'],
  stringData: [6, ['bytes']],
  int64Data: [7, 'int64s', 'packed'],
  name: [8, 'string'],
  docString: [12, 'string'],
  rawData: [9, 'bytes'],
  externalData: [13, [() => stringEntry]],
  dataLocation: [14, 'int32'],
  doubleData: [10, 'doubles', 'packed'],
  uint64Data: [11, 'uint64s', 'packed'],
  metadataProps: [16, [() => stringEntry]],
});

export const sparseTensorProto: MessageCodec<SparseTensorProto> =
  new MessageCodec<SparseTensorProto>('SparseTensorProto', {
    values: [1, () => tensorProto],
    indices: [2, () => tensorProto],
    dims: [3, ['size']],
  });

const dimension = new MessageCodec<DimensionProto>('TensorShapeProto.Dimension', {
  dimValue: [1, 'size'],
  dimParam: [2, 'string'],
  denotation: [3, 'string'],
});

const tensorShape = new MessageCodec<TensorShapeProto>('TensorShapeProto', {
  dim: [1, [() => dimension]],
});

const tensorType = new MessageCodec<TensorTypeProto>('TypeProto.Tensor', {
  elemType: [1, 'int32'],
  shape: [2, () => tensorShape],
});

const elementType: MessageCodec<ElementTypeProto> = new MessageCodec<ElementTypeProto>(
  'TypeProto.Sequence',
  {
    elemType: [1, () => typeProto],
  },
);

const mapType: MessageCodec<MapTypeProto> = new MessageCodec<MapTypeProto>('TypeProto.Map', {
  keyType: [1, 'int32'],
  valueType: [2, () => typeProto],
});

const opaqueType = new MessageCodec<OpaqueTypeProto>('TypeProto.Opaque', {
  domain: [1, 'string'],
  name: [2, 'string'],
});

export const typeProto: MessageCodec<TypeProto> = new MessageCodec<TypeProto>('TypeProto', {
  tensorType: [1, () => tensorType],
  sequenceType: [4, () => elementType],
  mapType: [5, () => mapType],
  denotation: [6, 'string'],
  opaqueType: [7, () => opaqueType],
  sparseTensorType: [8, () => tensorType],
  optionalType: [9, () => elementType],
});

export const valueInfoProto: MessageCodec<ValueInfoProto> = new MessageCodec<ValueInfoProto>(
  'ValueInfoProto',
  {
    name: [1, 'string'],
    type: [2, () => typeProto],
    docString: [3, 'string'],
    metadataProps: [4, [() => stringEntry]],
  },
);

export const attributeProto: MessageCodec<AttributeProto> = new MessageCodec<AttributeProto>(
  'AttributeProto',
  {
    name: [1, 'string'],
    f: [2, 'float'],
    i: [3, 'int64'],
    s: [4, 'bytes'],
    t: [5, () => tensorProto],
    g: [6, () => graphProto],
    floats: [7, 'floats'],
    ints: [8, 'int64s'],
    strings: [9, ['bytes']],
    tensors: [10, [() => tensorProto]],
    graphs: [11, [() => graphProto]],
    docString: [13, 'string'],
    tp: [14, () => typeProto],
    typeProtos: [15, [() => typeProto]],
    type: [20, 'int32'],
    refAttrName: [21, 'string'],
    sparseTensor: [22, () => sparseTensorProto],
    sparseTensors: [23, [() => sparseTensorProto]],
  },
);

export const nodeProto: MessageCodec<NodeProto> = new MessageCodec<NodeProto>('NodeProto', {
  input: [1, ['string']],
  output: [2, ['string']],
  name: [3, 'string'],
  opType: [4, 'string'],
  attribute: [5, [() => attributeProto]],
  docString: [6, 'string'],
  domain: [7, 'string'],
  overload: [8, 'string'],
  metadataProps: [9, [() => stringEntry]],
});

const tensorAnnotation = new MessageCodec<TensorAnnotation>('TensorAnnotation', {
  tensorName: [1, 'string'],
  quantParameterTensorNames: [2, [() => stringEntry]],
});

export const graphProto: MessageCodec<GraphProto> = new MessageCodec<GraphProto>('GraphProto', {
  node: [1, [() => nodeProto]],
  name: [2, 'string'],
  initializer: [5, [() => tensorProto]],
  docString: [10, 'string'],
  input: [11, [() => valueInfoProto]],
  output: [12, [() => valueInfoProto]],
  valueInfo: [13, [() => valueInfoProto]],
  quantizationAnnotation: [14, [() => tensorAnnotation]],
  sparseInitializer: [15, [() => sparseTensorProto]],
  metadataProps: [16, [() => stringEntry]],
});

export const functionProto: MessageCodec<FunctionProto> = new MessageCodec<FunctionProto>(
  'FunctionProto',
  {
    name: [1, 'string'],
    input: [4, ['string']],
    output: [5, ['string']],
    attribute: [6, ['string']],
    node: [7, [() => nodeProto]],
    docString: [8, 'string'],
    opsetImport: [9, [() => operatorSet]],
    domain: [10, 'string'],
    attributeProto: [11, [() => attributeProto]],
    valueInfo: [12, [() => valueInfoProto]],
    overload: [13, 'string'],
    metadataProps: [14, [() => stringEntry]],
  },
);

export const modelProto: MessageCodec<ModelProto> = new MessageCodec<ModelProto>('ModelProto', {
  irVersion: [1, 'size'],
  producerName: [2, 'string'],
  producerVersion: [3, 'string'],
  domain: [4, 'string'],
  modelVersion: [5, 'int64'],
  docString: [6, 'string'],
  graph: [7, () => graphProto],
  opsetImport: [8, [() => operatorSet]],
  metadataProps: [14, [() => stringEntry]],
  functions: [25, [() => functionProto]],
});

export const sequenceProto: MessageCodec<SequenceProto> = new MessageCodec<SequenceProto>(
  'SequenceProto',
  {
    name: [1, 'string'],
    elemType: [2, 'int32'],
    tensorValues: [3, [() => tensorProto]],
    sparseTensorValues: [4, [() => sparseTensorProto]],
    sequenceValues: [5, [() => sequenceProto]],
    optionalValues: [7, [() => optionalProto]],
  },
);

export const optionalProto: MessageCodec<OptionalProto> = new MessageCodec<OptionalProto>(
  'OptionalProto',
  {
    name: [1, 'string'],
    elemType: [2, 'int32'],
    tensorValue: [3, () => tensorProto],
    sparseTensorValue: [4, () => sparseTensorProto],
    sequenceValue: [5, () => sequenceProto],
    optionalValue: [7, () => optionalProto],
  },
);

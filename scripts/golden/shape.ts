// Adapters of the family `shape`: reshaping, joining, padding, indexing, scattering, creation.

import { numberOf, numbersOf, optionsOf } from './attributes.ts';
import { call, callForList, callForPair, decodeIndex } from './framework.ts';
import type { Tensor } from './framework.ts';
import type { Adapter, AdapterTable, Inputs } from './runner.ts';

/** The tensor, then these attributes by position, then no options. */
function positional(name: string, ...names: readonly string[]): Adapter {
  return ([x], attrs) => call(name, x, ...names.map((key) => attrs[key]));
}

function listed(name: string, ...names: readonly string[]): Adapter {
  return ([x], attrs) => callForList(name, x, ...names.map((key) => attrs[key]));
}

function present(inputs: Inputs): Tensor[] {
  return inputs.filter((input): input is Tensor => input !== undefined);
}

/** PyTorch's order: tensor, axis, index, source. */
function scattering(name: string): Adapter {
  return ([x, index, source], attrs) =>
    call(name, x, attrs['dim'], index, source ?? attrs['value'], optionsOf(attrs, 'dim', 'value'));
}

export const shape: AdapterTable = {
  reshape: positional('reshape', 'shape'),
  flatten: positional('flatten', 'start_dim', 'end_dim'),
  unflatten: positional('unflatten', 'dim', 'sizes'),
  squeeze: positional('squeeze', 'dim'),
  unsqueeze: positional('unsqueeze', 'dim'),
  transpose: positional('transpose', 'dim0', 'dim1'),
  permute: positional('permute', 'dims'),
  movedim: positional('movedim', 'source', 'destination'),
  expand: positional('expand', 'size'),
  broadcast_to: positional('broadcastTo', 'size'),
  cat: (inputs, attrs) => call('cat', present(inputs), attrs['dim']),
  stack: (inputs, attrs) => call('stack', present(inputs), attrs['dim']),
  split: listed('split', 'split_size_or_sections', 'dim'),
  chunk: listed('chunk', 'chunks', 'dim'),
  unbind: listed('unbind', 'dim'),
  pad: ([x], attrs) => call('pad', x, numbersOf(attrs, 'pad'), optionsOf(attrs, 'pad')),
  gather: ([x, index], attrs) => call('gather', x, attrs['dim'], index),
  take_along_dim: ([x, index], attrs) => call('takeAlongDim', x, index, attrs['dim']),
  index_select: ([x, index], attrs) => call('indexSelect', x, attrs['dim'], index),
  scatter: scattering('scatter'),
  scatter_add: scattering('scatterAdd'),
  scatter_reduce: ([x, index, source], attrs) => {
    const options = optionsOf(attrs, 'dim', 'reduce');
    return call('scatterReduce', x, attrs['dim'], index, source, attrs['reduce'], options);
  },
  index_add: scattering('indexAdd'),
  index_copy: scattering('indexCopy'),
  index_put: ([x, values, ...indices], attrs) =>
    call('indexPut', x, present(indices), values, optionsOf(attrs)),
  getitem: (inputs, attrs) => call('at', inputs[0], ...decodeIndex(attrs['index'], inputs)),
  setitem: (inputs, attrs) =>
    call('setAt', inputs[0], decodeIndex(attrs['index'], inputs), inputs[1] ?? attrs['value']),
  select: positional('select', 'dim', 'index'),
  narrow: positional('narrow', 'dim', 'start', 'length'),
  'Tensor.unfold': positional('unfoldAxis', 'dimension', 'size', 'step'),
  roll: positional('roll', 'shifts', 'dims'),
  flip: positional('flip', 'dims'),
  rot90: positional('rot90', 'k', 'dims'),
  tril: positional('tril', 'diagonal'),
  triu: positional('triu', 'diagonal'),
  diag: positional('diag', 'diagonal'),
  diagonal: ([x], attrs) => call('diagonal', x, optionsOf(attrs)),
  diag_embed: ([x], attrs) => call('diagEmbed', x, optionsOf(attrs)),
  topk: ([x], attrs) =>
    callForPair('topk', x, attrs['k'], attrs['dim'], optionsOf(attrs, 'k', 'dim')),
  sort: ([x], attrs) => callForPair('sort', x, attrs['dim'], optionsOf(attrs, 'dim')),
  argsort: ([x], attrs) => call('argsort', x, attrs['dim'], optionsOf(attrs, 'dim')),
  kthvalue: ([x], attrs) => callForPair('kthvalue', x, attrs['k'], attrs['dim']),
  masked_fill: ([x, mask], attrs) => call('maskedFill', x, mask, attrs['value']),
  masked_select: ([x, mask]) => call('maskedSelect', x, mask),
  one_hot: positional('oneHot', 'num_classes'),
  repeat: positional('repeat', 'repeats'),
  tile: positional('tile', 'dims'),
  repeat_interleave: ([x, repeats], attrs) =>
    call('repeatInterleave', x, repeats ?? attrs['repeats'], attrs['dim']),
  meshgrid: (inputs, attrs) => callForList('meshgrid', present(inputs), optionsOf(attrs)),
  diff: ([x], attrs) => call('diff', x, 1, attrs['dim']),
  nonzero: positional('nonzero'),
  searchsorted: ([sorted, values]) => call('searchsorted', sorted, values),
  bincount: ([x], attrs) => call('bincount', x, optionsOf(attrs)),
  arange: (_, attrs) => {
    const [start, end, step] = ['start', 'end', 'step'].map((name) => numberOf(attrs, name));
    return call('arange', start, end, step, { dtype: 'float32' });
  },
  linspace: (_, attrs) => call('linspace', attrs['start'], attrs['end'], attrs['steps']),
  eye: (_, attrs) => call('eye', attrs['n'], attrs['m']),
};

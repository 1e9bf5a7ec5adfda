// Adapters of the family `conv`: convolutions, pooling, interpolation, sampling, fold and unfold.

import { numbersOf, optionsOf } from './attributes.ts';
import { call, callForPair } from './framework.ts';
import type { Adapter, AdapterTable } from './runner.ts';

function convolution(name: string): Adapter {
  return ([x, weight, bias], attrs) => call(name, x, weight, bias, optionsOf(attrs));
}

/** Pooling by `kernel_size`; with `return_indices` also where each maximum was. */
function pooling(name: string, size = 'kernel_size'): Adapter {
  return ([x], attrs) => {
    const options = optionsOf(attrs, size);
    if (attrs['return_indices'] === true) return callForPair(name, x, attrs[size], options);
    return call(name, x, attrs[size], options);
  };
}

function positional(name: string, attribute: string): Adapter {
  return ([x], attrs) => call(name, x, attrs[attribute], optionsOf(attrs, attribute));
}

export const conv: AdapterTable = {
  conv1d: convolution('conv1d'),
  conv2d: convolution('conv2d'),
  conv3d: convolution('conv3d'),
  padded_conv2d: ([x, weight, bias], attrs) => {
    const mode = attrs['pad_mode'];
    const padded = call('pad', x, numbersOf(attrs, 'pad'), mode === undefined ? {} : { mode });
    return call('conv2d', padded, weight, bias, optionsOf(attrs, 'pad', 'pad_mode'));
  },
  conv_transpose1d: convolution('convTranspose1d'),
  conv_transpose2d: convolution('convTranspose2d'),
  conv_transpose3d: convolution('convTranspose3d'),
  max_pool1d: pooling('maxPool1d'),
  max_pool2d: pooling('maxPool2d'),
  max_pool3d: pooling('maxPool3d'),
  avg_pool1d: pooling('avgPool1d'),
  avg_pool2d: pooling('avgPool2d'),
  avg_pool3d: pooling('avgPool3d'),
  adaptive_avg_pool1d: pooling('adaptiveAvgPool1d', 'output_size'),
  adaptive_avg_pool2d: pooling('adaptiveAvgPool2d', 'output_size'),
  adaptive_max_pool1d: pooling('adaptiveMaxPool1d', 'output_size'),
  adaptive_max_pool2d: pooling('adaptiveMaxPool2d', 'output_size'),
  max_unpool2d: ([x, indices], attrs) =>
    call('maxUnpool2d', x, indices, attrs['kernel_size'], optionsOf(attrs, 'kernel_size')),
  lp_pool2d: ([x], attrs) => call('lpPool2d', x, attrs['norm_type'], attrs['kernel_size']),
  interpolate: ([x], attrs) => call('interpolate', x, optionsOf(attrs)),
  pixel_shuffle: positional('pixelShuffle', 'upscale_factor'),
  pixel_unshuffle: positional('pixelUnshuffle', 'downscale_factor'),
  channel_shuffle: positional('channelShuffle', 'groups'),
  grid_sample: ([x, grid], attrs) => call('gridSample', x, grid, optionsOf(attrs)),
  affine_grid: positional('affineGrid', 'size'),
  unfold: positional('unfold', 'kernel_size'),
  fold: ([x], attrs) =>
    call(
      'fold',
      x,
      attrs['output_size'],
      attrs['kernel_size'],
      optionsOf(attrs, 'output_size', 'kernel_size'),
    ),
};

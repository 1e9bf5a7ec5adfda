// Adapters of the family `rnn`: recurrent layers, attention, embeddings, transformer layers.

import { numberOf, optionsOf } from './attributes.ts';
import { call, callForList, callForPair, make, makeCausalMask } from './framework.ts';
import type { Layer, Tensor } from './framework.ts';
import type { Attributes } from './manifest.ts';
import type { Adapter, AdapterContext, AdapterTable, Inputs } from './runner.ts';

/** x, the states, the weights in the module's flat order; then the output and the last states. */
function recurrent(name: string, states: number): Adapter {
  return ([x, ...rest], attrs) =>
    callForList(name, x, rest.slice(0, states), rest.slice(states), optionsOf(attrs));
}

function cell(name: string): Adapter {
  return ([x, state, ...weights]) => call(name, x, state, ...weights);
}

/** Adds an option only where the case has the tensor. */
function given(options: Readonly<Record<string, Tensor | undefined>>): Record<string, Tensor> {
  const entries = Object.entries(options).filter(
    (entry): entry is [string, Tensor] => entry[1] !== undefined,
  );
  return Object.fromEntries(entries);
}

/** The case's weights by their parameter names. */
function weightsByName(inputs: Inputs, names: readonly (string | null)[], skip: number) {
  const entries = inputs.flatMap((input, i) => {
    const name = names[i] ?? null;
    return input === undefined || i < skip || name === null ? [] : [[name, input] as const];
  });
  return Object.fromEntries(entries);
}

/** nn.MultiheadAttention with the case's weights in place of its own. */
function multiheadAttention(inputs: Inputs, attrs: Attributes, { inputNames }: AdapterContext) {
  const [query, key, value, attnMask, keyPaddingMask] = inputs;
  const sizes = [query, key, value].map((tensor) => tensor?.shape.at(-1));
  const [embedDim, kdim, vdim] = sizes;
  const module = make('MultiheadAttention', embedDim, numberOf(attrs, 'num_heads'), {
    kdim,
    vdim,
  });
  const options = { ...optionsOf(attrs, 'num_heads'), ...given({ attnMask, keyPaddingMask }) };
  const weights = weightsByName(inputs, inputNames, 5);
  return callForPair('functionalCall', module, weights, query, key, value, options);
}

/** A transformer layer in evaluation mode, with the case's weights in place of its own. */
function transformerLayer(
  name: string,
  argumentsOf: (inputs: Inputs, mask: Tensor | undefined) => readonly unknown[],
): Adapter {
  return (inputs, attrs, { inputNames }) => {
    const { is_causal: isCausal, ...config } = attrs;
    const options = optionsOf(config, 'd_model', 'nhead');
    const module = make<Layer>(name, config['d_model'], config['nhead'], options);
    module.eval();
    const length = inputs[0]?.shape[config['batch_first'] === true ? 1 : 0] ?? 0;
    const mask = isCausal === true ? makeCausalMask(length) : undefined;
    const weights = weightsByName(inputs, inputNames, 2);
    return call('functionalCall', module, weights, ...argumentsOf(inputs, mask));
  };
}

export const rnn: AdapterTable = {
  rnn_tanh: recurrent('rnnTanh', 1),
  rnn_relu: recurrent('rnnRelu', 1),
  gru: recurrent('gru', 1),
  lstm: recurrent('lstm', 2),
  rnn_tanh_cell: cell('rnnTanhCell'),
  rnn_relu_cell: cell('rnnReluCell'),
  gru_cell: cell('gruCell'),
  lstm_cell: ([x, h, c, ...weights]) => callForPair('lstmCell', x, [h, c], ...weights),
  MultiheadAttention: multiheadAttention,
  scaled_dot_product_attention: ([query, key, value, mask], attrs) =>
    call('scaledDotProductAttention', query, key, value, {
      ...optionsOf(attrs),
      ...given({ attnMask: mask }),
    }),
  embedding: ([indices, weight], attrs) => call('embedding', indices, weight, optionsOf(attrs)),
  embedding_bag: ([indices, weight, offsets], attrs) =>
    call('embeddingBag', indices, weight, offsets, optionsOf(attrs)),
  TransformerEncoderLayer: transformerLayer(
    'TransformerEncoderLayer',
    ([src, padding], srcMask) => [src, given({ srcMask, srcKeyPaddingMask: padding })],
  ),
  TransformerDecoderLayer: transformerLayer('TransformerDecoderLayer', ([tgt, memory], tgtMask) => [
    tgt,
    memory,
    given({ tgtMask }),
  ]),
};

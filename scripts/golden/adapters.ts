// Every adapter, by PyTorch's name of the operation.

import { conv } from './conv.ts';
import { elementwise } from './elementwise.ts';
import { endToEnd } from './end_to_end.ts';
import { NotInStage } from './framework.ts';
import { higherOrder } from './higher_order.ts';
import { linalg } from './linalg.ts';
import { losses } from './losses.ts';
import { normalization } from './normalization.ts';
import { optimization } from './optim.ts';
import { reductions } from './reductions.ts';
import { rnn } from './rnn.ts';
import type { Adapter, AdapterTable } from './runner.ts';
import { shape } from './shape.ts';
import { vision } from './vision.ts';

const adapters: AdapterTable = {
  ...elementwise,
  ...reductions,
  ...shape,
  ...linalg,
  ...conv,
  ...normalization,
  ...losses,
  ...rnn,
  ...optimization,
  ...vision,
  ...higherOrder,
  ...endToEnd,
};

/** The adapter of an op; one that the runner has never heard of is skipped by name. */
export function adapterOf(op: string): Adapter {
  const adapter = adapters[op];
  if (adapter !== undefined) return adapter;
  return () => {
    throw new NotInStage(`${op} (no adapter)`);
  };
}

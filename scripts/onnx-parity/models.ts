// The models that are compared: small ones, trained for a few steps, and those of the model zoo.
import {
  arange,
  cond,
  manualSeed,
  nn,
  optim,
  randn,
  scan,
  tensor,
  type Tensor,
  where,
  whileLoop,
  zeros,
} from '../../src/node.ts';
import { GPT } from '../../src/text.ts';
import * as vision from '../../src/vision.ts';

export interface ParityCase {
  readonly name: string;
  readonly model: nn.Module;
  /** Inputs of several sizes; the first is the example of the export. */
  readonly inputs: readonly Tensor[];
  readonly axes: Readonly<Record<number, string>>;
}

function first(result: unknown): Tensor {
  return (Array.isArray(result) ? result[0] : result) as Tensor;
}

/** What a module's forward makes of one tensor. */
export function call(model: nn.Module, x: Tensor): unknown {
  return (model.forward as (x: Tensor) => unknown).call(model, x);
}

/** Trains towards zeros for a few steps: no weight and no statistic stays as it was made. */
function trained<M extends nn.Module>(model: M, input: Tensor): M {
  const optimizer = new optim.Adam(model.parameters(), { lr: 0.003 });
  model.train();
  for (let step = 0; step < 5; step++) {
    optimizer.zeroGrad();
    first(call(model, input)).square().mean().backward();
    optimizer.step();
  }
  return model.eval() as M;
}

function tokens(batch: number, time: number): Tensor {
  const values = Int32Array.from({ length: batch * time }, (_, i) => (37 * i + 11) % 50);
  return tensor(values).reshape(batch, time);
}

function cnn(): nn.Module {
  return new nn.Sequential(
    new nn.Conv2d(1, 8, 3, { padding: 1 }),
    new nn.BatchNorm2d(8),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(8, 16, 3, { padding: 1, bias: false }),
    new nn.BatchNorm2d(16),
    new nn.LeakyReLU(0.1),
    new nn.AvgPool2d(2),
    new nn.Dropout(0.2),
    new nn.Flatten(),
    new nn.Linear(16 * 7 * 7, 10),
  );
}

function encoder(): nn.Module {
  const layer = (): nn.TransformerEncoderLayer =>
    new nn.TransformerEncoderLayer(32, 4, {
      dimFeedforward: 64,
      batchFirst: true,
      activation: 'gelu',
    });
  return new nn.TransformerEncoder(layer, 2);
}

/** A GRU written as a scan, with a choice in each step, by values. */
class ScannedGru extends nn.Module {
  readonly cell = new nn.GRUCell(12, 16);

  override forward(xs: Tensor): Tensor {
    const steps = xs.transpose(0, 1);
    const [, all] = scan(
      (h: Tensor, x: Tensor) => {
        const next = this.cell.forward(x, h);
        const kept = cond(
          next.mean().gt(0),
          () => next,
          () => next.mul(0.9).add(h.mul(0.1)),
        );
        return [kept, kept] as const;
      },
      zeros([xs.shape[0] as number, 16]),
      steps,
    );
    return all.transpose(0, 1);
  }
}

const LONGEST = 12;

/** Greedy search, token by token, until all sequences have ended. */
class Search extends nn.Module {
  readonly embedding = new nn.Embedding(50, 16);
  readonly toLogits = new nn.Linear(16, 50);

  override forward(first: Tensor): Tensor {
    const places = arange(LONGEST, { dtype: 'int32' });
    return whileLoop(
      ({ token, at }) => token.ne(0).any().logicalAnd(at.lt(LONGEST)),
      ({ tokens, token, at }) => {
        const best = this.toLogits.forward(this.embedding.forward(token)).argmax(-1);
        const next = where(token.ne(0), best, zeros(best.shape, { dtype: 'int32' }));
        const column = next.unsqueeze(1);
        return { tokens: where(places.eq(at), column, tokens), token: next, at: at.add(1) };
      },
      {
        tokens: zeros([first.shape[0] as number, LONGEST], { dtype: 'int32' }),
        token: first,
        at: tensor(0, { dtype: 'int32' }),
      },
    ).tokens;
  }
}

/** Small models of several kinds. */
export function smallCases(): ParityCase[] {
  manualSeed(0);
  const batch = { 0: 'batch' };
  const both = { 0: 'batch', 1: 'time' };
  return [
    {
      name: 'CNN',
      model: trained(cnn(), randn([16, 1, 28, 28])),
      inputs: [2, 1, 5].map((n) => randn([n, 1, 28, 28])),
      axes: batch,
    },
    {
      name: 'GRU, two layers, both directions',
      model: trained(
        new nn.GRU(12, 16, { batchFirst: true, numLayers: 2, bidirectional: true }),
        randn([4, 9, 12]),
      ),
      inputs: [2, 1, 5].map((n) => randn([n, 9, 12])),
      axes: batch,
    },
    {
      name: 'LSTM of any length',
      model: trained(new nn.LSTM(12, 16, { batchFirst: true }), randn([4, 9, 12])),
      inputs: [randn([2, 30, 12]), randn([1, 2, 12]), randn([3, 100, 12])],
      axes: both,
    },
    {
      name: 'GRU by scan, with a choice in each step',
      model: trained(new ScannedGru(), randn([4, 9, 12])),
      inputs: [randn([2, 30, 12]), randn([1, 2, 12]), randn([3, 100, 12])],
      axes: both,
    },
    {
      name: 'search by whileLoop',
      model: new Search().eval(),
      inputs: [[7, 3], [12], [5, 0, 49]].map((list) => tensor(list, { dtype: 'int32' })),
      axes: batch,
    },
    {
      name: 'TransformerEncoder',
      model: trained(encoder(), randn([4, 12, 32])),
      inputs: [randn([2, 12, 32]), randn([1, 1, 32]), randn([3, 31, 32])],
      axes: both,
    },
    {
      name: 'TransformerEncoder, longer',
      model: trained(encoder(), randn([4, 12, 32])),
      inputs: [randn([2, 40, 32]), randn([3, 50, 32])],
      axes: both,
    },
    {
      name: 'GPT',
      model: trained(
        new GPT({ layers: 2, width: 32, heads: 4, contextLength: 48, vocabulary: 50 }),
        tokens(4, 48),
      ),
      inputs: [tokens(2, 20), tokens(1, 48), tokens(3, 1)],
      axes: both,
    },
  ];
}

/** Image models with the weights that they are made with. */
export function visionCases(): ParityCase[] {
  const builders: Readonly<Record<string, () => nn.Module>> = {
    resnet18: vision.resnet18,
    mobilenetV3Small: vision.mobilenetV3Small,
    efficientnetB0: vision.efficientnetB0,
    squeezenet1_1: vision.squeezenet1_1,
    vitB32: vision.vitB32,
    swinT: vision.swinT,
  };
  return Object.entries(builders).map(([name, build]) => {
    manualSeed(0);
    const size = name === 'vitB32' || name === 'swinT' ? 224 : 64;
    const inputs = [2, 1].map((n) => randn([n, 3, size, size]));
    return { name, model: build().eval(), inputs, axes: { 0: 'batch' } };
  });
}

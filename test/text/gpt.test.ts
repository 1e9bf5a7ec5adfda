// The decoder against one written in PyTorch: state dict, scores, gradients.
import { describe, expect, test } from 'vitest';
import { ArgumentError, evaluate, F, manualSeed, nn, noGrad, ShapeError, tensor } from 'tengen';
import { GPT } from 'tengen/text';
import { expectState, fill, readFixture, relativeError } from '../vision/support.ts';

const fixture = readFixture('gpt', '../text');
const sizes = { layers: 2, width: 32, heads: 4, contextLength: 16, vocabulary: 10 };
const make = () => nn.init.skip(() => new GPT(sizes));

const counted = Int32Array.from({ length: 32 }, (_, i) => (i * i) % 10);
const tokens = tensor(counted).reshape(2, 16);

describe('GPT', () => {
  test('has the same state, scores, loss and gradients', async () => {
    const record = fixture.models['gpt']!;
    const model = make();
    expectState(model, record);
    fill(model);
    const logits = model.forward(tokens);
    expect(relativeError(await logits.data(), record.logits!)).toBeLessThan(1e-5);
    const labels = tensor(counted.map((token) => (token + 1) % 10));
    const loss = F.crossEntropy(logits.flatten(0, 1), labels);
    loss.backward();
    evaluate(loss, ...model.parameters().map((parameter) => parameter.grad!));
    expect(await loss.item()).toBeCloseTo(fixture.loss!, 5);
    for (const [name, parameter] of model.namedParameters()) {
      const norm = Math.hypot(...(await parameter.grad!.data()).values());
      expect(norm / fixture.norms![name]!, name).toBeCloseTo(1, 4);
    }
  });

  test('takes shorter sequences, and no token sees later ones', async () => {
    const model = make();
    fill(model);
    const { whole, part } = noGrad(() => ({
      whole: model.forward(tokens).narrow(1, 0, 5),
      part: model.forward(tokens.narrow(1, 0, 5)),
    }));
    expect(relativeError(await part.data(), [...(await whole.data())])).toBeLessThan(1e-5);
    expect(() => model.forward(tokens.reshape(1, 32))).toThrow(ShapeError);
    expect(() => new GPT({ ...sizes, heads: 5 })).toThrow(ArgumentError);
  });

  test('positions start small, token vectors from N(0, 1)', () => {
    manualSeed(1);
    const model = new GPT({ ...sizes, contextLength: 64, vocabulary: 64 });
    const deviation = (name: string): number => {
      const values = model.stateDict()[name]!.float().dataSync();
      return Math.hypot(...values.values()) / Math.sqrt(values.length);
    };
    expect(deviation('pe') / 0.02).toBeCloseTo(1, 1);
    expect(deviation('te.weight')).toBeCloseTo(1, 1);
    expect(deviation('bl.0.qkv.weight') * Math.sqrt(3 * 32)).toBeCloseTo(1, 1);
  });
});

// The network of the MNIST example as C: every variant, both compilers, sanitizers, another processor.
import { join } from 'node:path';
import { manualSeed, noGrad, randn } from 'tengen';
import { describe, expect, it } from 'vitest';
import { DigitNet } from '../../examples/mnist/model.ts';
import { NativeDevice } from '../../src/backends/native/device.ts';
import { nativeUnavailable } from '../../src/backends/native/host.ts';
import { InterpDevice } from '../../src/backends/interp/device.ts';
import { exportC } from '../../src/backends/c/export.ts';
import { cTarget, type CVariant } from '../../src/backends/c/targets.ts';
import { runOnceOn } from '../../src/runtime/run-once.ts';
import { capture, casesOf, bytes } from './capture.ts';
import { armMissing, make, missing, runsHere, temporaryFolder, writeFiles } from './toolchains.ts';

const folder = temporaryFolder();

function digits() {
  manualSeed(1);
  const model = new DigitNet();
  model.eval();
  const image = randn(1, 1, 28, 28);
  const other = randn(1, 1, 28, 28);
  const captured = capture({ image }, () => noGrad(() => ({ scores: model.forward(image) })));
  return { captured, images: [[image], [other]] };
}

describe('MNIST', () => {
  it('dev', async () => {
    const { captured, images } = digits();
    for (const numerics of ['strict', 'fast'] as const) {
      const testCases = await casesOf(captured, numerics, images);
      const variants: CVariant[] = ['scalar', 'sse', 'avx', 'neon'];
      const plans = new Map(variants.map((v) => [v, captured.exported(cTarget(v, numerics))]));
      const t = performance.now();
      const files = await exportC([
        {
          request: {
            ...captured.request,
            name: 'mnist',
            testCases,
            runOnce: runOnceOn(new InterpDevice()),
          },
          plans,
        },
      ]);
      console.log(
        performance.now() - t,
        [...files.files].map(([k, v]) => `${k} ${v.length}`),
        files.arenaBytes,
      );
      writeFiles('/tmp/cx/' + numerics, files);
    }
  });
});

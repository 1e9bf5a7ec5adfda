// W4: one training step of the MNIST CNN at batch 64 - forward, backward, SGD with momentum - with
// the loss read. 1.55 GFLOP in products and convolutions.
import { F, GradManager, nn, optim, tensor } from 'tengen';
import type { Tensor } from 'tengen';
import { noise, type Row, rowOf, time } from './harness.ts';

class Net extends nn.Module {
  conv1 = new nn.Conv2d(1, 32, 3, { padding: 1 });
  bn1 = new nn.BatchNorm2d(32);
  conv2 = new nn.Conv2d(32, 64, 3, { padding: 1 });
  bn2 = new nn.BatchNorm2d(64);
  fc1 = new nn.Linear(3136, 128);
  fc2 = new nn.Linear(128, 10);

  forward(x: Tensor): Tensor {
    let h = F.maxPool2d(F.relu(this.bn1.forward(this.conv1.forward(x))), 2);
    h = F.maxPool2d(F.relu(this.bn2.forward(this.conv2.forward(h))), 2);
    return this.fc2.forward(F.relu(this.fc1.forward(h.flatten(1))));
  }
}

const BATCH = 64;

/** A training has thousands of steps: after a few hundred the engine has optimized the code of one. */
const WARM = { warmup: 300, runs: 30 };

/** Operations of a step: three products per layer, but for the first layer's input gradient. */
const FLOP = 2 * BATCH * (2 * 784 * 32 * 9 + 3 * 196 * 64 * 32 * 9 + 3 * (3136 * 128 + 1280));

export function benchMnistStep(threads: number): Row[] {
  const model = new Net();
  const manager = new GradManager().attach(model.parameters());
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const pixels = noise(BATCH * 784);
  const labels = Int32Array.from({ length: BATCH }, (_, i) => i % 10);
  const step = (): void => {
    const x = tensor(pixels, { shape: [BATCH, 1, 28, 28] });
    const y = tensor(labels, { shape: [BATCH] });
    const loss = F.crossEntropy(model.forward(x), y);
    manager.backward(loss);
    optimizer.step();
    optimizer.zeroGrad();
    loss.dataSync();
  };
  return [rowOf('W4 mnist-cnn train b64', threads, time(step, WARM), FLOP)];
}

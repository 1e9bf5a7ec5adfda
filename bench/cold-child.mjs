// One cold process of bench/cold.ts, on the built package: node cold-child.mjs WHAT DEVICE THREADS.
// Prints one JSON line of figures.
import { configure, evaluate, F, nn, noGrad, optim, randn, tensor, zeros } from 'tengen';
import { resnet18 } from 'tengen/vision';

const [what, device, threads] = process.argv.slice(2);
configure({ device, threads: Number(threads) });

/** LeNet-5 in the form that the peers run. */
function lenet() {
  return new nn.Sequential(
    new nn.Conv2d(1, 6, 5, { padding: 2 }),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(6, 16, 5),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(400, 120),
    new nn.ReLU(),
    new nn.Linear(120, 84),
    new nn.ReLU(),
    new nn.Linear(84, 10),
  );
}

/** The network of examples/mnist. */
function digits() {
  return new nn.Sequential(
    new nn.Conv2d(1, 32, 3, { padding: 1 }),
    new nn.BatchNorm2d(32),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Conv2d(32, 64, 3, { padding: 1 }),
    new nn.BatchNorm2d(64),
    new nn.ReLU(),
    new nn.MaxPool2d(2),
    new nn.Flatten(),
    new nn.Linear(3136, 128),
    new nn.ReLU(),
    new nn.Linear(128, 10),
  );
}

/** Times of training steps, in milliseconds. */
function trainingSteps(model, shape, count) {
  const optimizer = new optim.SGD(model.parameters(), { lr: 0.01, momentum: 0.9 });
  const images = randn(shape);
  evaluate(images, ...model.parameters());
  const labels = tensor(Int32Array.from({ length: shape[0] }, (_, i) => i % 10));
  return Array.from({ length: count }, () => {
    const start = performance.now();
    const loss = F.crossEntropy(model.forward(images), labels);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    loss.dataSync();
    return performance.now() - start;
  });
}

const cifar = () => resnet18({ numClasses: 10, stem: 'cifar' });
const subjects = {
  lenet: () => [noGrad(() => lenet().forward(zeros([1, 1, 28, 28]))).dataSync()[0]],
  mnist: () => trainingSteps(digits(), [64, 1, 28, 28], 12),
  resnet: () => trainingSteps(cifar(), [32, 3, 32, 32], 6),
  memory: () => trainingSteps(cifar(), [128, 3, 32, 32], 5),
};
const times = subjects[what]();
console.log(JSON.stringify({ times, peakRssMb: process.resourceUsage().maxRSS / 1024 }));
// Workers and compilers have nothing left to do.
process.exit(0);

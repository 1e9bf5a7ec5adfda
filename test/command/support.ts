// Runs subcommands in this process, with what they print in hand.
import type { Command, Terminal } from '../../src/interface/command/call.ts';
import { nn, noGrad, manualSeed, randn, type Tensor, trace } from '../../src/node.ts';
import '../../src/interp.ts';

export interface Ended {
  readonly code: number;
  readonly text: string;
}

/** The devices are those of this process. */
export async function call(command: Command, ...words: readonly string[]): Promise<Ended> {
  const lines: string[] = [];
  const terminal: Terminal = {
    print: (text) => void lines.push(text),
    note: () => {},
    devices: () => Promise.resolve(),
    cache: () => Promise.reject(new Error('no cache here')),
    exporters: () => Promise.reject(new Error('no exporters here')),
  };
  const code = await command.run(words, terminal);
  return { code, text: lines.join('\n') };
}

class Net extends nn.Module {
  conv = new nn.Conv2d(2, 8, 3, { padding: 1 });
  bn = new nn.BatchNorm2d(8);
  fc = new nn.Linear(8, 3);

  forward(x: Tensor): Tensor {
    return this.fc.forward(this.bn.forward(this.conv.forward(x)).relu().mean([2, 3]));
  }
}

/** Writes a small network; returns its input. */
export async function writeNetwork(path: string): Promise<Tensor> {
  manualSeed(3);
  const net = new Net();
  net.eval();
  const x = randn(1, 2, 6, 6);
  const fn = trace((image: Tensor) => noGrad(() => net.forward(image)), { name: 'net' });
  await fn.dump(path, {
    inputs: [x],
    module: net,
    names: { inputs: ['image'], outputs: ['scores'] },
    numerics: ['fast', 'strict'],
  });
  return x;
}

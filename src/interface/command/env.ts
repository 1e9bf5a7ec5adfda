// `tengen env`: what this machine computes with.
import { env as environmentOf } from '../transform/index.ts';
import { type Command, parseCall, toJson } from './call.ts';

const HELP = `tengen env [--json]

Devices of this machine, which one is used, and why others are not.`;

export const env: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(words, {}, [0, 0]);
    await terminal.devices();
    const environment = environmentOf();
    if (call.flag('json')) {
      terminal.print(toJson(environment));
      return 0;
    }
    const { device, threads, threadsReason, numerics, devices } = environment;
    const lines = devices.map(({ name, unavailable }) => {
      return `  ${name.padEnd(8)} ${unavailable === null ? 'can be used' : unavailable}`;
    });
    const used = `device ${device}, ${threads} threads (${threadsReason}), ${numerics} numerics`;
    terminal.print([used, ...lines].join('\n'));
    return 0;
  },
};

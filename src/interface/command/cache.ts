// `tengen cache`: what is kept on disk, which is made again when it is needed.
import { table } from '../terminal/index.ts';
import { clearMeasuredAlgorithms, measuredAlgorithms } from '../transform/index.ts';
import { CallError, type Command, parseCall, toJson } from './call.ts';

const HELP = `tengen cache [list | clear] [--json]

Compiled kernels and programs, measured algorithms: where, how many, how large. 'list' adds every
measured algorithm with the times of all that were tried; 'clear' removes all.`;

export const cache: Command = {
  help: HELP,
  async run(words, terminal) {
    const call = await parseCall(words, {}, [0, 1]);
    const [action = 'show'] = call.words;
    if (action !== 'show' && action !== 'list' && action !== 'clear') {
      throw new CallError(`'${action}' is not list or clear`);
    }
    await terminal.devices();
    const disk = await terminal.cache();
    const isJson = call.flag('json');
    if (action === 'clear') {
      clearMeasuredAlgorithms();
      const { path, libraries } = disk.clear();
      terminal.print(
        isJson ? toJson({ path, libraries }) : `removed ${path}: ${libraries} libraries`,
      );
      return 0;
    }
    const report = disk.report();
    const algorithms = measuredAlgorithms();
    if (isJson) {
      terminal.print(toJson({ ...report, algorithms }));
      return 0;
    }
    const { path, libraries, kernels, programs, bytes } = report;
    const size = `${(bytes / 1e6).toFixed(1)} MB`;
    const lines = [
      `${path}: ${kernels} kernels in ${libraries} libraries, ${programs} programs, ${size}`,
      `${algorithms.length} measured algorithms`,
    ];
    if (action === 'list' && algorithms.length > 0) {
      const rows = algorithms.map(({ device, operation, times }) => [
        operation,
        times.map(([schedule, time]) => `${schedule} ${time.toFixed(3)} ms`).join(', '),
        device,
      ]);
      lines.push(table(rows, { head: ['operation', 'schedules, the fastest first', 'device'] }));
    }
    terminal.print(lines.join('\n'));
    return 0;
  },
};

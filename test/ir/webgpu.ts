// Runs rendered WGSL on SwiftShader, in headless Chromium: numbers go in and out as 32-bit words.
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chromium } from 'playwright-core';
import { renderWgsl } from '../../src/backends/webgpu/renderer.ts';
import type { Kernel } from '../../src/ir/kernel.ts';

const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Why shaders cannot be run here, or undefined if they can. */
export function browserMissing(): string | undefined {
  return BROWSERS.some(existsSync) ? undefined : 'there is no browser';
}

/** Arguments of 32-bit elements. */
export type WordArray = Float32Array | Int32Array | Uint32Array;

// Text, because its names are the page's: there are no types of WebGPU here.
const IN_PAGE = `async (tasks) => {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return { error: 'no WebGPU adapter' };
  const device = await adapter.requestDevice();
  const results = [];
  for (const { code, groups, words } of tasks) {
    const module = device.createShaderModule({ code });
    const messages = (await module.getCompilationInfo()).messages.filter((m) => m.type === 'error');
    if (messages.length > 0) {
      return { error: messages.map((m) => m.lineNum + ': ' + m.message).join('; ') + '\\n' + code };
    }
    const compute = { module, entryPoint: 'main' };
    const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute });
    const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const buffers = words.map((values) => {
      const data = new Uint32Array(values);
      const buffer = device.createBuffer({ size: Math.max(4, data.byteLength), usage: STORAGE });
      device.queue.writeBuffer(buffer, 0, data);
      return buffer;
    });
    const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(...groups);
    pass.end();
    const reads = buffers.map((buffer) => {
      const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
      const read = device.createBuffer({ size: buffer.size, usage });
      encoder.copyBufferToBuffer(buffer, 0, read, 0, buffer.size);
      return read;
    });
    device.queue.submit([encoder.finish()]);
    const answers = [];
    for (const read of reads) {
      await read.mapAsync(GPUMapMode.READ);
      answers.push([...new Uint32Array(read.getMappedRange())]);
      read.destroy();
    }
    for (const buffer of buffers) buffer.destroy();
    results.push(answers);
  }
  return { results };
}`;

/** Runs prepared kernels; the arrays are overwritten with what they hold then. */
export async function runWebGpu(
  kernels: readonly Kernel[],
  views: readonly (readonly WordArray[])[],
): Promise<void> {
  const executablePath = BROWSERS.find(existsSync);
  if (executablePath === undefined) throw new Error('there is no browser');
  const tasks = kernels.map((kernel, n) => {
    const { source, workgroups } = renderWgsl(kernel);
    return { code: source, groups: workgroups, words: (views[n] ?? []).map(wordsOf) };
  });
  // WebGPU is for secure pages, and this machine's own address is one.
  const server = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>kernels</title>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--enable-unsafe-webgpu',
      '--enable-features=Vulkan',
      '--use-webgpu-adapter=swiftshader',
    ],
  });
  try {
    const page = await browser.newPage();
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    const { error, results } = await page.evaluate<{
      readonly error?: string;
      readonly results?: readonly (readonly (readonly number[])[])[];
    }>(`(${IN_PAGE})(${JSON.stringify(tasks)})`);
    if (results === undefined) throw new Error(error ?? 'no result');
    views.forEach((arrays, n) =>
      arrays.forEach((array, which) => {
        const words = Uint32Array.from(results[n]?.[which] ?? []).subarray(0, array.length);
        new Uint32Array(array.buffer, array.byteOffset, array.length).set(words);
      }),
    );
  } finally {
    await browser.close();
    server.close();
  }
}

function wordsOf(array: WordArray): number[] {
  return [...new Uint32Array(array.buffer, array.byteOffset, array.length)];
}

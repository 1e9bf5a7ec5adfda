// What WGSL looks like, and what it refuses.
import { describe, expect, it } from 'vitest';
import { renderWgsl } from '../../src/backends/webgpu/renderer.ts';
import { Builder } from '../../src/ir/builder.ts';
import type { Expression } from '../../src/ir/expression.ts';
import type { Kernel } from '../../src/ir/kernel.ts';
import { prepareKernel } from '../../src/ir/prepare.ts';
import { elementwise, targetOf } from './support.ts';

const shaderOf = (kernel: Kernel, vectorBytes = 4): string =>
  renderWgsl(prepareKernel(kernel, targetOf(vectorBytes))).source;

describe('renderWgsl', () => {
  it('prints a fused sum and relu in vectors of four', () => {
    const kernel = elementwise(9, ['float32', 'float32'], 'float32', (b, [x, y]) =>
      b.max(b.add(x as Expression, y as Expression), b.constant(0, 'f32')),
    );
    expect(shaderOf(kernel, 16)).toMatchInlineSnapshot(`
      "@group(0) @binding(0) var<storage, read> b0: array<f32>;
      @group(0) @binding(1) var<storage, read> b1: array<f32>;
      @group(0) @binding(2) var<storage, read_write> b2: array<f32>;
      fn is_nanx4(x: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u); }
      fn max_f32x4(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
        let tie = bitcast<vec4<f32>>(bitcast<vec4<i32>>(a) & bitcast<vec4<i32>>(b));
        let most = select(select(a, tie, a == b), b, b > a);
        return select(select(most, b, is_nanx4(b)), a, is_nanx4(a));
      }
      fn load4_b0(i: i32) -> vec4<f32> { return vec4<f32>(b0[i + 0], b0[i + 1], b0[i + 2], b0[i + 3]); }
      fn load4_b1(i: i32) -> vec4<f32> { return vec4<f32>(b1[i + 0], b1[i + 1], b1[i + 2], b1[i + 3]); }
      fn store4_b2(i: i32, v: vec4<f32>) { b2[i + 0] = v[0]; b2[i + 1] = v[1]; b2[i + 2] = v[2]; b2[i + 3] = v[3]; }
      fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & u32(0x7fffffffu)) > u32(0x7f800000u); }
      fn max_f32(a: f32, b: f32) -> f32 {
        let tie = bitcast<f32>(bitcast<i32>(a) & bitcast<i32>(b));
        let most = select(select(a, tie, a == b), b, b > a);
        return select(select(most, b, is_nan(b)), a, is_nan(a));
      }
      @compute @workgroup_size(1)
      fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
        let v0 = i32(group.x);
        _ = &b0;
        _ = &b1;
        _ = &b2;
        for (var v1: i32 = 0; v1 < 8; v1 += 4) {
          store4_b2(v1, max_f32x4((load4_b0(v1) + load4_b1(v1)), vec4<f32>(0f)));
        }
        for (var v2: i32 = 8; v2 < 9; v2 += 1) {
          b2[v2] = max_f32((b0[v2] + b1[v2]), 0f);
        }
      }
      "
    `);
  });

  it('prints workgroups, shared memory and barriers', () => {
    const b = new Builder();
    const y = b.buffer('y', 'float32', 'write');
    const shared = b.buffer('s', 'bool', 'readwrite', { space: 'workgroup', length: 8 });
    const gridIndex = b.variable('g', 'i32', { min: 0, max: 99999 });
    const localIndex = b.variable('l', 'i32', { min: 0, max: 7 });
    const flag = b.load(shared, b.sub(b.constant(7), localIndex));
    const kernel: Kernel = {
      name: 'flags',
      buffers: [y],
      scratch: [shared],
      gridIndex,
      gridSize: 100000,
      workgroup: { size: 8, localIndex },
      body: [
        {
          kind: 'store',
          buffer: shared,
          index: localIndex,
          value: b.compare('lt', localIndex, b.constant(3)),
        },
        { kind: 'barrier' },
        {
          kind: 'store',
          buffer: y,
          index: b.add(b.scale(gridIndex, 8), localIndex),
          value: b.select(flag, b.constant(Infinity, 'f32'), b.constant(NaN, 'f32')),
        },
      ],
    };
    expect(renderWgsl(prepareKernel(kernel, targetOf(4))).workgroups).toEqual([65535, 2]);
    expect(shaderOf(kernel)).toMatchInlineSnapshot(`
      "@group(0) @binding(0) var<storage, read_write> b0: array<f32>;
      var<workgroup> s0: array<bool, 8>;
      var<private> nan_bits: u32 = 0x7fc00000u;
      var<private> infinity_bits: u32 = 0x7f800000u;
      @compute @workgroup_size(8)
      fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
        let v0 = i32(group.x + group.y * 65535u);
        if (v0 >= 100000) { return; }
        let v1 = i32(local);
        _ = &b0;
        s0[v1] = (v1 < 3);
        workgroupBarrier();
        b0[((v0 * 8) + v1)] = select(bitcast<f32>(nan_bits), bitcast<f32>(infinity_bits), s0[((v1 * i32(-1)) + 7)]);
      }
      "
    `);
  });

  it('refuses what WGSL has not', () => {
    const copy = (dtype: Parameters<typeof elementwise>[2]): Kernel =>
      elementwise(8, [dtype], dtype, (_, [x]) => x as Expression);
    for (const dtype of ['bool', 'uint8', 'int16', 'float16', 'bfloat16'] as const) {
      expect(() => shaderOf(copy(dtype))).toThrow(
        `x0 is ${dtype}, and WGSL stores 32-bit elements only`,
      );
    }
    expect(() => shaderOf(copy('float64'))).toThrow('x0 is float64, and WGSL has no such numbers');
    expect(() => shaderOf(copy('float32'), 32)).toThrow('has vectors of 8, WGSL at most of 4');
    const many = elementwise(
      8,
      Array.from({ length: 8 }, () => 'float32' as const),
      'float32',
      (_, [x]) => x as Expression,
    );
    expect(() => shaderOf(many)).toThrow('has 9 buffers, the device binds 8');
    expect(renderWgsl(prepareKernel(many, targetOf(4)), { maximumBuffers: 10 }).source).toContain(
      'b8',
    );
  });
});

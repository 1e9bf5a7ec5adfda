// Gradients of loops, of every order, against those of the loop written out.
import { describe, test } from 'vitest';
import { configure, customGradient, grad, scan, tensor, valueAndGrad, type Tensor } from 'tengen';
import 'tengen/interp';
import 'tengen/native';
import { checkLeaks, expectValues, ints } from '../interface/support.ts';
import { cellOf, network, writtenOut } from './support.ts';

configure({ device: 'wasm', numerics: 'strict' });
checkLeaks();

describe('gradients', () => {
  const loss = (useScan: boolean) => (h0: Tensor, xs: Tensor, w: Tensor, u: Tensor) => {
    const cell = cellOf(w, u);
    if (!useScan) {
      const states = writtenOut(cell, h0, xs);
      const sum = states.map((h) => h.mul(h).sum()).reduce((a, b) => a.add(b));
      return sum.add(states.at(-1)!.sum());
    }
    const [last, kept] = scan(
      (h, x: Tensor) => {
        const next = cell(h, x);
        return [next, next.mul(next).sum()];
      },
      h0,
      xs,
    );
    return kept.sum().add(last.sum());
  };

  test('by the first carry, what is gone through, and what is closed over; again', () => {
    const args = network();
    const argnums = [0, 1, 2, 3];
    const [actual, expected] = [true, false].map((useScan) =>
      valueAndGrad(loss(useScan), { argnums })(...args),
    ) as [ReturnType<ReturnType<typeof valueAndGrad>>, ReturnType<ReturnType<typeof valueAndGrad>>];
    expectValues(actual.value, expected.value.arraySync());
    actual.grads.forEach((g, i) => expectValues(g, expected.grads[i]!.arraySync()));
    const second = (useScan: boolean, argnum: number) =>
      grad((v: Tensor) => {
        const list = [...args] as [Tensor, Tensor, Tensor, Tensor];
        list[argnum] = v;
        const { grads } = valueAndGrad(loss(useScan), { argnums, createGraph: true })(...list);
        return grads.map((g) => g.mul(g).sum()).reduce((a, b) => a.add(b));
      })(args[argnum]!);
    for (const argnum of argnums) {
      expectValues(second(true, argnum), second(false, argnum).arraySync());
    }
  });

  test('a third derivative', () => {
    const cube = (x: Tensor): Tensor =>
      scan((p: Tensor) => [p.mul(x), null], tensor(1), null, { length: 4 })[0];
    expectValues(cube(tensor(2)), 16);
    expectValues(grad(cube)(tensor(2)), 32);
    expectValues(grad(grad(cube))(tensor(2)), 48);
    expectValues(grad(grad(grad(cube)))(tensor(2)), 48);
  });

  test('custom gradients, detached values, and gradients taken inside', () => {
    const double = customGradient((x: Tensor) => ({
      value: x.mul(1),
      gradient: (g) => g.mul(x.mul(2)),
    }));
    const f = (x: Tensor) =>
      scan((s: Tensor, part: Tensor) => [s.add(double(part)), null], tensor(0), x)[0];
    expectValues(grad(f)(tensor([1, 2, 3])), [2, 4, 6]);
    const cut = (x: Tensor) =>
      scan((s: Tensor, part: Tensor) => [s.detach().add(part), null], tensor(0), x)[0];
    expectValues(grad(cut)(tensor([1, 2, 3])), [0, 0, 1]);
    const inner = (x: Tensor) =>
      scan(
        (s: Tensor, part: Tensor) => [s.add(grad((v: Tensor) => v.mul(v).mul(v))(part)), null],
        tensor(0),
        x,
      )[0];
    expectValues(inner(tensor([1, 2])), 15);
    expectValues(grad(inner)(tensor([1, 2])), [6, 12]);
  });

  test('integers and bools go along; their paths have none', () => {
    const f = (x: Tensor) =>
      scan(
        ({ sum, count, any }: { sum: Tensor; count: Tensor; any: Tensor }, part: Tensor) => [
          {
            sum: sum.add(part.mul(count)),
            count: count.add(1),
            any: any.logicalOr(part.gt(2)),
          },
          count,
        ],
        { sum: tensor(0), count: ints(1), any: tensor(false) },
        x,
      );
    const [last, counts] = f(tensor([1, 2, 3]));
    expectValues(last.sum, 14);
    expectValues(last.any, true);
    expectValues(counts, [1, 2, 3]);
    expectValues(grad((x: Tensor) => f(x)[0].sum)(tensor([1, 2, 3])), [1, 2, 3]);
  });
});

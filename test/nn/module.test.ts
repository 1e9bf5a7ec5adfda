// Modules: what is found in their fields, by which names, state dicts, modes and hooks.
import { describe, expect, test } from 'vitest';
import { ArgumentError, nn, ones, ShapeError, type Tensor, tensor, zeros } from 'tengen';

class Block extends nn.Module {
  norm = new nn.BatchNorm1d(2);
  linear = new nn.Linear(2, 2, { bias: false });
  forward(x: Tensor): Tensor {
    return this.linear.forward(this.norm.forward(x));
  }
}

class Net extends nn.Module {
  options = { width: 2, sizes: [1, 2, 3] };
  scaleFactor = new nn.Parameter(new Float32Array([2]), [1]);
  layers = [new Block(), new Block()];
  heads = { mainHead: new nn.Linear(2, 1), aux: new nn.Linear(2, 3) };
  tied = this.layers[0];
  #unseen = new nn.Linear(5, 5);
  forward(x: Tensor): Tensor {
    let y = x.mul(this.scaleFactor);
    for (const layer of this.layers) y = layer.forward(y);
    return this.heads.mainHead.forward(y);
  }
  get unseen(): nn.Linear {
    return this.#unseen;
  }
}

const values = (x: Tensor): number[] => Array.from(x.dataSync());

describe('walking', () => {
  test('parameters of fields, arrays and records, each once, by PyTorch names', () => {
    const names = [...new Net().namedParameters()].map(([name]) => name);
    expect(names).toEqual([
      'scale_factor',
      'layers.0.norm.weight',
      'layers.0.norm.bias',
      'layers.0.linear.weight',
      'layers.1.norm.weight',
      'layers.1.norm.bias',
      'layers.1.linear.weight',
      'heads.mainHead.weight',
      'heads.mainHead.bias',
      'heads.aux.weight',
      'heads.aux.bias',
    ]);
  });

  test('buffers and the state dict', () => {
    const net = new Net();
    expect([...net.namedBuffers()].map(([name]) => name)).toContain('layers.1.norm.running_var');
    expect(Object.keys(net.stateDict())).toHaveLength(11 + 6);
    expect(net.parameters(false)[0]).toBe(net.scaleFactor);
    expect(net.parameters(false)).toHaveLength(1);
    expect(net.unseen.parameters()).toHaveLength(2);
  });

  test('modules, children and apply', () => {
    const net = new Net();
    expect([...net.namedChildren()].map(([name]) => name)).toEqual([
      'layers.0',
      'layers.1',
      'heads.mainHead',
      'heads.aux',
      'tied',
    ]);
    expect(net.modules()).toHaveLength(1 + 2 * 3 + 2);
    const seen: string[] = [];
    new Block().apply((module) => void seen.push(module.constructor.name));
    expect(seen).toEqual(['BatchNorm1d', 'Linear', 'Block']);
  });

  test('train and eval reach every module', () => {
    const net = new Net();
    expect(net.eval()).toBe(net);
    expect(net.modules().map((module) => module.training)).not.toContain(true);
    net.train();
    expect(net.modules().map((module) => module.training)).not.toContain(false);
  });

  test('prints like a tree', () => {
    expect(String(new nn.Sequential({ body: new Block(), act: new nn.ReLU() }))).toBe(
      [
        'Sequential(',
        '  (body): Block(',
        '    (norm): BatchNorm1d(2, eps=0.00001, momentum=0.1, affine=true, trackRunningStats=true)',
        '    (linear): Linear(inFeatures=2, outFeatures=2, bias=false)',
        '  )',
        '  (act): ReLU',
        ')',
      ].join('\n'),
    );
  });
});

describe('state', () => {
  test('goes from one module to another, from a record or a Map', () => {
    const [a, b, c] = [new Net(), new Net(), new Net()];
    expect(values(a.heads.aux.weight)).not.toEqual(values(b.heads.aux.weight));
    b.loadStateDict(a.stateDict());
    c.loadStateDict(new Map(Object.entries(a.stateDict())));
    for (const other of [b, c]) {
      for (const [name, value] of Object.entries(a.stateDict())) {
        expect(values(other.stateDict()[name] as Tensor), name).toEqual(values(value));
      }
    }
  });

  test('values are copied, not shared', () => {
    const [a, b] = [new nn.Linear(1, 1), new nn.Linear(1, 1)];
    b.loadStateDict(a.stateDict());
    const before = values(b.weight);
    nn.init.constant(a.weight, 7);
    expect(values(b.weight)).toEqual(before);
  });

  test('other dtypes are converted', () => {
    const layer = new nn.Linear(2, 1, { bias: false });
    layer.loadStateDict({ weight: tensor([[1, 2]]).to('float16') });
    expect(values(layer.weight)).toEqual([1, 2]);
    expect(layer.weight.dtype).toBe('float32');
    layer.loadStateDict({ weight: tensor([[3, 4]], { dtype: 'int32' }) });
    expect(values(layer.weight)).toEqual([3, 4]);
  });

  test('missing and unexpected names are all named, and nothing is changed', () => {
    const layer = new nn.Linear(1, 1);
    const before = values(layer.weight);
    const wrong = { weight: zeros([1, 1]), bogus: zeros([1]), other: zeros([1]) };
    expect(() => layer.loadStateDict(wrong)).toThrow(ArgumentError);
    expect(() => layer.loadStateDict(wrong)).toThrow(
      'loadStateDict: missing: bias; unexpected: bogus, other. hint: pass { strict: false }',
    );
    expect(values(layer.weight)).toEqual(before);
    expect(layer.loadStateDict(wrong, { strict: false })).toEqual({
      missing: ['bias'],
      unexpected: ['bogus', 'other'],
    });
    expect(values(layer.weight)).toEqual([0]);
  });

  test('wrong shapes throw, strict or not', () => {
    const layer = new nn.Linear(3, 2);
    const wrong = { weight: zeros([3, 2]), bias: zeros([2]) };
    expect(() => layer.loadStateDict(wrong, { strict: false })).toThrow(ShapeError);
    expect(() => layer.loadStateDict(wrong)).toThrow('weight is [3,2], expected [2,3]');
  });

  test('a name of the object prototype is not a parameter', () => {
    expect(() => new nn.Identity().loadStateDict({ toString: zeros([1]) })).toThrow(ArgumentError);
  });
});

describe('hooks', () => {
  test('see and replace inputs and outputs, and come off', () => {
    const layer = new nn.Identity();
    const seen: string[] = [];
    const before = layer.registerForwardPreHook((_, [x]) => [(x as Tensor).add(1)]);
    const after = layer.registerForwardHook((_, inputs, output) => {
      seen.push(`${values(inputs[0] as Tensor)}`);
      return (output as Tensor).mul(10);
    });
    expect(values(layer.forward(ones([1])))).toEqual([20]);
    before.remove();
    expect(values(layer.forward(ones([1])))).toEqual([10]);
    after.remove();
    expect(values(layer.forward(ones([1])))).toEqual([1]);
    expect(seen).toEqual(['2', '1']);
  });
});

describe('containers', () => {
  test('Sequential: order, names, access', () => {
    const model = new nn.Sequential(new nn.Linear(2, 3), new nn.ReLU());
    model.append(new nn.Linear(3, 1));
    expect(model.length).toBe(3);
    expect(model.at(-1)).toBe(model.at('2'));
    expect([...model].map((layer) => layer.constructor.name)).toEqual(['Linear', 'ReLU', 'Linear']);
    expect(model.forward(zeros([4, 2])).shape).toEqual([4, 1]);
    expect(() => model.at(3)).toThrow('there is no item 3 among 3');
    expect(() => model.at('fc')).toThrow("there is no layer 'fc'. hint: there are 0, 1, 2");
  });

  test('Sequential by names, and names that cannot be', () => {
    const model = new nn.Sequential({ fc: new nn.Linear(2, 2), act: new nn.Tanh() });
    expect(Object.keys(model.stateDict())).toEqual(['fc.weight', 'fc.bias']);
    expect(() => new nn.Sequential({ 'a.b': new nn.Tanh() })).toThrow(ArgumentError);
    const notALayer = (x: Tensor): Tensor => x;
    expect(() => new nn.Sequential(notALayer as never)).toThrow('functions have modules too');
  });

  test('ModuleList and ModuleDict', () => {
    const list = new nn.ModuleList([new nn.Linear(1, 2)]).append(new nn.Linear(2, 3));
    expect(Object.keys(list.stateDict())).toEqual(['0.weight', '0.bias', '1.weight', '1.bias']);
    expect(list.at(-1).outFeatures).toBe(3);
    expect(() => list.at(2)).toThrow(ArgumentError);
    expect(() => list.forward()).toThrow('nn.ModuleList: a container has no forward of its own');
    const dict = new nn.ModuleDict({ small: new nn.Linear(1, 1), act: new nn.ReLU() });
    expect(dict.get('small').inFeatures).toBe(1);
    expect(dict.size).toBe(2);
    expect([...dict].map(([name]) => name)).toEqual(['small', 'act']);
    expect(() => dict.get('toString' as 'act')).toThrow(ArgumentError);
  });

  test('ParameterList and ParameterDict make parameters of tensors', () => {
    class Sum extends nn.Module {
      terms = new nn.ParameterList([ones([2]), ones([2])]);
      named = new nn.ParameterDict({ a: ones([2]) });
      forward(): Tensor {
        let sum: Tensor = this.named.get('a');
        for (const term of this.terms) sum = sum.add(term);
        return sum;
      }
    }
    const module = new Sum();
    expect(Object.keys(module.stateDict())).toEqual(['terms.0', 'terms.1', 'named.a']);
    module.forward().sum().backward();
    for (const parameter of module.parameters()) {
      expect(values(parameter.grad as Tensor)).toEqual([1, 1]);
    }
    module.zeroGrad();
    expect(module.parameters().map((parameter) => parameter.grad)).toEqual([null, null, null]);
  });
});

describe('functionalCall', () => {
  test('computes with other weights, leaves its own, and gives gradients by them', () => {
    const layer = new nn.Linear(2, 1);
    const before = values(layer.weight);
    const weight = tensor([[3, 4]], { requiresGrad: true });
    const y = nn.functionalCall(layer, { weight, bias: zeros([1]) }, tensor([[1, 10]]));
    expect(values(y)).toEqual([43]);
    y.sum().backward();
    expect(values(weight.grad as Tensor)).toEqual([1, 10]);
    expect(layer.weight.grad).toBeNull();
    expect(values(layer.weight)).toEqual(before);
  });

  test('unknown names and wrong shapes throw, and nothing stays swapped', () => {
    const layer = new nn.Linear(2, 1);
    const node = layer.weight.node;
    const x = zeros([1, 2]);
    expect(() => nn.functionalCall(layer, { weights: x }, x)).toThrow(
      "the module has no 'weights'",
    );
    expect(() => nn.functionalCall(layer, { weight: zeros([2, 1]) }, x)).toThrow(ShapeError);
    expect(() => nn.functionalCall(layer, { weight: x }, zeros([1, 3]))).toThrow(ShapeError);
    expect(layer.weight.node).toBe(node);
  });
});

describe('summary', () => {
  test('shapes and counts without computing or leaving a trace', () => {
    const model = new nn.Sequential(
      new nn.Conv2d(1, 4, 3),
      new nn.BatchNorm2d(4),
      new nn.Flatten(),
      new nn.Linear(4 * 26 * 26, 10),
    );
    const table = nn.summary(model, [2, 1, 28, 28]);
    expect(table.layers.map(({ name, shape }) => [name, shape])).toEqual([
      ['0', [2, 4, 26, 26]],
      ['1', [2, 4, 26, 26]],
      ['2', [2, 2704]],
      ['3', [2, 10]],
    ]);
    expect(table.parameters).toBe(40 + 8 + 27_050);
    expect(String(table)).toContain('27098 parameters');
    expect(model.training).toBe(true);
    expect(values((model.at(1) as nn.BatchNorm2d).numBatchesTracked as Tensor)).toEqual([0]);
  });
});
